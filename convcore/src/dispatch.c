#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "internal.h"

static bool always(void) { return true; }

/* Best first. */
static const struct {
  const cvc_isa_table *table;
  bool (*supported)(void);
} isas[] = {
#if defined(__x86_64__) && !defined(CVC_NO_AVX512)
    {&cvc_table_avx512, cvc_cpu_has_avx512},
#endif
#if defined(__x86_64__) && !defined(CVC_NO_AVX2)
    {&cvc_table_avx2, cvc_cpu_has_avx2},
#endif
    {&cvc_table_generic, always},
};
enum { ISAS = sizeof isas / sizeof isas[0] };

/* Written once; two threads that race here store the same pointer. */
static _Atomic(const cvc_isa_table *) chosen;

static const cvc_isa_table *choose(void) {
  const char *forced = getenv("CONVCORE_ISA");
  for (int i = 0; i < ISAS; i++) {
    if (forced && *forced && strcmp(forced, isas[i].table->name)) continue;
    if (isas[i].supported()) return isas[i].table;
  }
  return NULL;
}

cvc_status cvc_initialize(void) {
  if (atomic_load_explicit(&chosen, memory_order_acquire)) return CVC_OK;
  const cvc_isa_table *table = choose();
  if (!table) return CVC_BAD_ISA;
  atomic_store_explicit(&chosen, table, memory_order_release);
  return CVC_OK;
}

const char *cvc_isa(void) {
  return cvc_initialize() == CVC_OK ? atomic_load(&chosen)->name : NULL;
}

const char *cvc_isa_available(int i) {
  for (int at = 0; at < ISAS; at++)
    if (isas[at].supported() && i-- == 0) return isas[at].table->name;
  return NULL;
}

const cvc_kernels *cvc_kernels_of(cvc_dtype dtype) {
  return &atomic_load_explicit(&chosen, memory_order_acquire)->of[dtype];
}
