/* SPDX-License-Identifier: GPL-2.0-only */
/* One object of all parts: they share their maps, and live and die together. */
#include "ledger.bpf.c"
#include "guard.bpf.c"
#include "recheck-fmodret.bpf.c"
#include "recheck-kprobe.bpf.c"
#include "control.bpf.c"
#include "iter.bpf.c"

char LICENSE[] SEC("license") = "GPL";
