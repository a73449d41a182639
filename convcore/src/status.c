#include "internal.h"

const char *cvc_status_text(cvc_status status) {
  switch (status) {
    case CVC_OK: return "success";
    case CVC_BAD_ARGUMENT: return "invalid argument";
    case CVC_BAD_SHAPE: return "sizes that do not fit together";
    case CVC_TOO_LARGE: return "sizes whose product is too large";
    case CVC_OVERLAP: return "an output overlaps an input";
    case CVC_UNSUPPORTED: return "not supported by this algorithm or build";
    case CVC_BAD_PACKING:
      return "weights packed for another shape, pass or ISA";
    case CVC_BAD_ISA:
      return "CONVCORE_ISA names an instruction set that is unknown or that "
             "this machine does not support";
    case CVC_NO_MEMORY: return "out of memory";
    case CVC_INTERRUPTED: return "interrupted";
  }
  return "unknown status";
}

cvc_status cvc_check_disjoint(const void *a, int64_t a_bytes, const void *b,
                              int64_t b_bytes) {
  if (!a || !b || a_bytes <= 0 || b_bytes <= 0) return CVC_OK;
  uintptr_t a0 = (uintptr_t)a, b0 = (uintptr_t)b;
  bool apart = a0 + (uintptr_t)a_bytes <= b0 || b0 + (uintptr_t)b_bytes <= a0;
  return apart ? CVC_OK : CVC_OVERLAP;
}
