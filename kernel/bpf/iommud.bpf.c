/* SPDX-License-Identifier: GPL-2.0-only */
/* One object of all parts: they share their maps, and live and die together. */
#include "ledger.bpf.c"
#include "guard.bpf.c"
#include "points.bpf.c"
#include "probes.bpf.c"
#include "control.bpf.c"
#include "walk.bpf.c"

char LICENSE[] SEC("license") = "GPL";
