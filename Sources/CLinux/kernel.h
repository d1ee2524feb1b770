// How the shim asks the kernel. In a release build KERNEL is the call that stands in it, and nothing else.
//
// In a debug build a test may have ordered that this call fails, this time: then it is not made, errno is set, and
// `failure` stands for its result. See CLinuxFaults.h.

#ifndef CLINUX_KERNEL_H
#define CLINUX_KERNEL_H

#ifdef DEBUG
#include "CLinuxFaults.h"
#define KERNEL(kind, failure, call) (clinux_fault_strikes(CLINUX_CALL_##kind) ? (failure) : (call))
#else
#define KERNEL(kind, failure, call) (call)
#endif

#endif
