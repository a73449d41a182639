/** What the CPU, the operating system and this build support together. */
#ifndef CVC_CPU_H
#define CVC_CPU_H

#include <stdbool.h>

bool cvc_cpu_has_avx2(void);
bool cvc_cpu_has_avx512(void);

/** CPUs this process may use: affinity mask and cgroup quota, at least 1. */
int cvc_cpu_count(void);

#endif /* CVC_CPU_H */
