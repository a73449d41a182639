#define _GNU_SOURCE
#include "cpu.h"

#include <stdio.h>
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

/* __builtin_cpu_supports asks CPUID and, for the wide registers, XGETBV:
 * whether the operating system saves them. */

bool cvc_cpu_has_avx2(void) {
#if defined(__x86_64__) && !defined(CVC_NO_AVX2)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool cvc_cpu_has_avx512(void) {
#if defined(__x86_64__) && !defined(CVC_NO_AVX512)
  __builtin_cpu_init();
  return cvc_cpu_has_avx2() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

/** CPUs granted by the quota of control group v2 or v1; 0: no limit. */
static int cgroup_quota(void) {
#if defined(__linux__)
  double quota = 0, period = 0;
  FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
  if (file) { /* v2: "max 100000" or "150000 100000" */
    if (fscanf(file, "%lf %lf", &quota, &period) != 2) quota = 0;
    fclose(file);
  } else { /* v1: -1 means no limit */
    file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r");
    if (file) {
      if (fscanf(file, "%lf", &quota) != 1) quota = 0;
      fclose(file);
    }
    file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r");
    if (file) {
      if (fscanf(file, "%lf", &period) != 1) period = 0;
      fclose(file);
    }
  }
  if (quota > 0 && period > 0) return (int)((quota + period - 1) / period);
#endif
  return 0;
}

int cvc_cpu_count(void) {
  int count = 1;
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
#elif defined(_SC_NPROCESSORS_ONLN)
  count = (int)sysconf(_SC_NPROCESSORS_ONLN);
#endif
  int quota = cgroup_quota();
  if (quota > 0 && quota < count) count = quota;
  return count > 0 ? count : 1;
}
