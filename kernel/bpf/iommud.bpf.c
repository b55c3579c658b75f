/* SPDX-License-Identifier: GPL-2.0-only */
/* One object of all parts, in any order: they share their maps, and live and die together. */
#include "control.bpf.c"
#include "devices.bpf.c"
#include "guard.bpf.c"
#include "iter.bpf.c"
#include "ledger.bpf.c"
#include "recheck-fmodret.bpf.c"
#include "recheck-kprobe.bpf.c"
#include "repair.bpf.c"

char LICENSE[] SEC("license") = "GPL";
