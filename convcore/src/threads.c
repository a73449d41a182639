/**
 * The one place that knows OpenMP: the default thread count, the parallel
 * loop and scratch memory.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "cpu.h"
#include "internal.h"

#if defined(_OPENMP)
#include <omp.h>
#if defined(__linux__)
#include <dlfcn.h>
#include <pthread.h>
#endif
#endif

/* A second thread pays from about this many operations; where waiting threads
 * sleep, one takes 50 us to wake. */
#define WORK_PER_THREAD 5e5
#define WORK_PER_SLEEPER 1e7
#define POLL_SECONDS 0.01
#define MAX_THREADS 1024

/* ------------------------------------------------------------------- fork */

#if defined(_OPENMP) && defined(__linux__)
/* libgomp's pool hangs in a forked child; releasing it before the fork lets
 * parent and child each make a new one. Looked up at run time since older
 * runtimes lack the function. */
static void before_fork(void) {
  int (*pause_all)(int) =
      (int (*)(int))dlsym(RTLD_DEFAULT, "omp_pause_resource_all");
  if (pause_all && !omp_in_parallel()) pause_all(1 /* omp_pause_soft */);
}

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void register_fork(void) { pthread_atfork(before_fork, NULL, NULL); }

static void prepare_fork(void) { pthread_once(&fork_once, register_fork); }
#elif defined(_OPENMP)
static void prepare_fork(void) {}
#endif

/* ----------------------------------------------------------------- counts */

static atomic_int default_threads; /* 0: not yet asked for */

int cvc_has_openmp(void) {
#if defined(_OPENMP)
  return 1;
#else
  return 0;
#endif
}

int cvc_get_num_threads(void) {
  int threads = atomic_load(&default_threads);
  if (threads) return threads;
  const char *text = getenv("OMP_NUM_THREADS");
  long named = text ? strtol(text, NULL, 10) : 0;
  threads = named > 0 && named <= MAX_THREADS ? (int)named : cvc_cpu_count();
  if (!cvc_has_openmp()) threads = 1;
  atomic_store(&default_threads, threads);
  return threads;
}

cvc_status cvc_set_num_threads(int threads) {
  if (threads < 1 || threads > MAX_THREADS) return CVC_BAD_ARGUMENT;
  atomic_store(&default_threads, threads);
  return CVC_OK;
}

/** Operations that a further thread is to have. */
static double work_per_thread(void) {
  static atomic_int sleeps; /* 1: threads do not wait asleep, 2: they do */
  int known = atomic_load_explicit(&sleeps, memory_order_relaxed);
  if (!known) {
    const char *policy = getenv("OMP_WAIT_POLICY");
    known = policy && strcasecmp(policy, "passive") == 0 ? 2 : 1;
    atomic_store_explicit(&sleeps, known, memory_order_relaxed);
  }
  return known == 2 ? WORK_PER_SLEEPER : WORK_PER_THREAD;
}

int cvc_plan_threads(const cvc_call *call, int64_t tasks, double work) {
  int threads =
      call && call->threads > 0 ? call->threads : cvc_get_num_threads();
  if (!cvc_has_openmp()) return 1;
  threads = (int)cvc_min(cvc_min(threads, MAX_THREADS), cvc_max(tasks, 1));
  const double least = work_per_thread();
  return work < 2 * least ? 1 : (int)cvc_min(threads, (int64_t)(work / least));
}

/* ---------------------------------------------------------- parallel loop */

typedef struct loop {
  const cvc_call *call;
  void *context;
  const cvc_phase *phases;
  int count;
  int64_t rounds;
  /* Tasks that are taken and that have ended, of all phases and rounds. */
  atomic_int_fast64_t taken, ended;
  atomic_bool stop;
  atomic_int left; /* threads that have no more to do */
} loop;

double cvc_now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static bool stopped(loop *l) {
  return atomic_load_explicit(&l->stop, memory_order_relaxed);
}

/** Wait for tasks, not for threads that have yet to wake. */
static void wait_for(loop *l, int64_t tasks) {
  for (int64_t tries = 0; !stopped(l); tries++) {
    if (atomic_load_explicit(&l->ended, memory_order_acquire) >= tasks) return;
    if (tries > 1000) sched_yield();
  }
}

/** Take tasks until none is left; thread 0 polls the interrupt. */
static void take_tasks(loop *l, int thread) {
  bool polls = thread == 0 && l->call && l->call->interrupt;
  double last = polls ? cvc_now() : 0;
  const cvc_phase *phase = l->phases, *end = phase + l->count;
  int64_t round = 0, first = 0; /* first: task of the phase */
  while (!stopped(l)) {
    const int64_t task =
        atomic_fetch_add_explicit(&l->taken, 1, memory_order_relaxed);
    while (task >= first + phase->tasks) {
      first += phase->tasks;
      if (++phase < end) continue;
      phase = l->phases;
      if (++round == l->rounds) return;
    }
    wait_for(l, first);
    if (stopped(l)) return;
    phase->function(l->context, round, task - first, thread);
    atomic_fetch_add_explicit(&l->ended, 1, memory_order_release);
    if (!polls || cvc_now() - last < POLL_SECONDS) continue;
    if (l->call->interrupt(l->call->interrupt_data))
      atomic_store_explicit(&l->stop, true, memory_order_relaxed);
    last = cvc_now();
  }
}

#if defined(_OPENMP)
/** The caller awaits the others here, awake: where OpenMP's barrier would let
 * it sleep it would come late to all that follows. */
static void leave(loop *l, int thread, int threads) {
  if (thread) {
    atomic_fetch_add_explicit(&l->left, 1, memory_order_release);
    return;
  }
  for (int64_t tries = 0;
       atomic_load_explicit(&l->left, memory_order_acquire) < threads - 1;
       tries++)
    if (tries > 1000) sched_yield();
}
#endif

cvc_status cvc_parallel_phases(const cvc_call *call, int threads,
                               const cvc_phase *phases, int count,
                               int64_t rounds, void *context) {
  loop l = {.call = call,
            .context = context,
            .phases = phases,
            .count = count,
            .rounds = rounds};
  atomic_init(&l.taken, 0);
  atomic_init(&l.ended, 0);
  atomic_init(&l.stop, false);
  atomic_init(&l.left, 0);
#if defined(_OPENMP)
  if (threads > 1) {
    prepare_fork();
#pragma omp parallel num_threads(threads)
    {
      const int thread = omp_get_thread_num();
      take_tasks(&l, thread);
      leave(&l, thread, omp_get_num_threads());
    }
    return atomic_load(&l.stop) ? CVC_INTERRUPTED : CVC_OK;
  }
#endif
  (void)threads;
  take_tasks(&l, 0);
  return atomic_load(&l.stop) ? CVC_INTERRUPTED : CVC_OK;
}

typedef struct simple {
  cvc_task function;
  void *context;
} simple;

static void simple_task(void *context, int64_t round, int64_t task,
                        int thread) {
  (void)round;
  const simple *s = context;
  s->function(s->context, task, thread);
}

cvc_status cvc_parallel(const cvc_call *call, int threads, int64_t tasks,
                        cvc_task function, void *context) {
  simple s = {function, context};
  const cvc_phase all = {.tasks = tasks, .function = simple_task};
  return cvc_parallel_phases(call, threads, &all, 1, 1, &s);
}

/* ---------------------------------------------------------------- scratch */

cvc_status cvc_scratch_begin(cvc_scratch *scratch, const cvc_call *call,
                             int64_t bytes) {
  scratch->owned = false;
  scratch->memory = NULL;
  if (bytes == 0) return CVC_OK;
  if (call && call->scratch) {
    if (call->scratch_bytes < bytes) return CVC_BAD_ARGUMENT;
    if ((uintptr_t)call->scratch % 64) return CVC_BAD_ARGUMENT;
    scratch->memory = call->scratch;
    return CVC_OK;
  }
  if (bytes < 0 || (uint64_t)bytes > SIZE_MAX - 64) return CVC_TOO_LARGE;
  if (posix_memalign(&scratch->memory, 64, (size_t)bytes)) {
    scratch->memory = NULL;
    return CVC_NO_MEMORY;
  }
  scratch->owned = true;
  return CVC_OK;
}

void cvc_scratch_end(cvc_scratch *scratch) {
  if (scratch->owned) free(scratch->memory);
}
