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
#define WORK_PER_AWAKE 2e5 /* one that awaits work already */
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

typedef struct team team;
static _Thread_local team *own_team; /* whose thread 0 this thread is */

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
  if (own_team) return WORK_PER_AWAKE;
  static atomic_int sleeps; /* 1: threads do not wait asleep, 2: they do */
  int known = atomic_load_explicit(&sleeps, memory_order_relaxed);
  if (!known) {
    const char *policy = getenv("OMP_WAIT_POLICY");
    known = policy && strcasecmp(policy, "passive") == 0 ? 2 : 1;
    atomic_store_explicit(&sleeps, known, memory_order_relaxed);
  }
  return known == 2 ? WORK_PER_SLEEPER : WORK_PER_THREAD;
}

static int threads_for(const cvc_call *call, int64_t tasks, double work,
                       double least) {
  int threads =
      call && call->threads > 0 ? call->threads : cvc_get_num_threads();
  if (!cvc_has_openmp()) return 1;
  threads = (int)cvc_min(cvc_min(threads, MAX_THREADS), cvc_max(tasks, 1));
  return work < 2 * least ? 1 : (int)cvc_min(threads, (int64_t)(work / least));
}

int cvc_plan_threads(const cvc_call *call, int64_t tasks, double work) {
  return threads_for(call, tasks, work, work_per_thread());
}

int cvc_most_threads(const cvc_call *call, int64_t tasks, double work) {
  return threads_for(call, tasks, work, WORK_PER_AWAKE);
}

/* ---------------------------------------------------------- parallel loop */

/* What threads wait for lies in cache lines of its own: beside the caller's
 * variables on the stack, each look would cost the caller a line. */
#define LINE 64

typedef struct loop {
  _Alignas(LINE) const cvc_call *call;
  void *context;
  const cvc_phase *phases;
  int count;
  int threads; /* at most */
  int64_t rounds;
  /* Tasks that are taken and that have ended, of all phases and rounds. */
  _Alignas(LINE) atomic_int_fast64_t taken;
  atomic_int_fast64_t ended;
  atomic_bool stop;
} loop;

#ifndef CLOCK_MONOTONIC_COARSE
#define CLOCK_MONOTONIC_COARSE CLOCK_MONOTONIC
#endif

static double seconds_of(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

double cvc_now(void) { return seconds_of(CLOCK_MONOTONIC); }

double cvc_about_now(void) { return seconds_of(CLOCK_MONOTONIC_COARSE); }

/** Once more nothing to do: other programs may have the CPU after a while. */
static void wait_awake(int64_t tries) {
  if (tries > 1000) sched_yield();
}

static bool stopped(loop *l) {
  return atomic_load_explicit(&l->stop, memory_order_relaxed);
}

/** Wait for tasks, not for threads that have yet to wake. */
static void wait_for(loop *l, int64_t tasks) {
  for (int64_t tries = 0; !stopped(l); tries++) {
    if (atomic_load_explicit(&l->ended, memory_order_acquire) >= tasks) return;
    wait_awake(tries);
  }
}

/** Take tasks until none is left; thread 0 polls the interrupt. */
static void take_tasks(loop *l, int thread) {
  bool polls = thread == 0 && l->call && l->call->interrupt;
  double last = polls ? cvc_about_now() : 0;
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
    if (!polls || cvc_about_now() - last < POLL_SECONDS) continue;
    if (l->call->interrupt(l->call->interrupt_data))
      atomic_store_explicit(&l->stop, true, memory_order_relaxed);
    last = cvc_about_now();
  }
}

/* ------------------------------------------------------------------- team */

/**
 * The threads of one parallel region. Its caller, thread 0, gives out loops
 * one after the other, which the others await awake: a region for each loop
 * would have sleeping threads woken each time.
 */
struct team {
  _Alignas(LINE) loop *loop;
  /* Loops begun and ended: odd while one is open. */
  atomic_int_fast64_t number;
  atomic_int inside; /* threads that may look at the loop */
  atomic_int left;   /* threads that have no more to do */
  atomic_bool over;
};

static bool is_open(team *t) { return atomic_load(&t->number) & 1; }

#if defined(_OPENMP)
/** What the other threads do. */
static void serve(team *t, int thread) {
  int64_t done = 0, tries = 0; /* done: the last loop seen */
  while (!atomic_load_explicit(&t->over, memory_order_acquire)) {
    const int64_t number = atomic_load(&t->number);
    if (number == done || number % 2 == 0) {
      wait_awake(tries++);
      continue;
    }
    /* The caller closes the loop, then waits until nobody is inside. */
    atomic_fetch_add(&t->inside, 1);
    if (atomic_load(&t->number) == number && thread < t->loop->threads)
      take_tasks(t->loop, thread);
    atomic_fetch_sub(&t->inside, 1);
    done = number;
    tries = 0;
  }
  atomic_fetch_add_explicit(&t->left, 1, memory_order_release);
}

/** The caller awaits the others here, awake: where OpenMP's barrier would let
 * it sleep it would come late to all that follows. */
static void dismiss(team *t, int threads) {
  own_team = NULL;
  atomic_store_explicit(&t->over, true, memory_order_release);
  for (int64_t tries = 0;
       atomic_load_explicit(&t->left, memory_order_acquire) < threads - 1;)
    wait_awake(tries++);
}
#endif

cvc_status cvc_with_team(int threads, cvc_status (*function)(void *context),
                         void *context) {
  cvc_status status = CVC_OK;
#if defined(_OPENMP)
  if (threads > 1 && !own_team) {
    team t = {.loop = NULL};
    prepare_fork();
#pragma omp parallel num_threads(threads)
    if (omp_get_thread_num()) {
      serve(&t, omp_get_thread_num());
    } else {
      own_team = &t;
      status = function(context);
      dismiss(&t, omp_get_num_threads());
    }
    return status;
  }
#endif
  (void)threads;
  return function(context);
}

/** Give the loop to the team of this thread; alone where there is none, or it
 * has one already: an interrupt may call the library. */
static cvc_status run_loop(void *context) {
  loop *l = context;
  team *t = own_team;
  if (!t || l->threads == 1 || is_open(t)) {
    take_tasks(l, 0);
  } else {
    t->loop = l;
    atomic_fetch_add(&t->number, 1);
    take_tasks(l, 0);
    atomic_fetch_add(&t->number, 1);
    for (int64_t tries = 0; atomic_load(&t->inside);) wait_awake(tries++);
  }
  return atomic_load(&l->stop) ? CVC_INTERRUPTED : CVC_OK;
}

cvc_status cvc_parallel_phases(const cvc_call *call, int threads,
                               const cvc_phase *phases, int count,
                               int64_t rounds, void *context) {
  loop l = {.call = call,
            .context = context,
            .phases = phases,
            .count = count,
            .threads = threads,
            .rounds = rounds};
  return cvc_with_team(threads, run_loop, &l);
}

/** All tasks by the caller: no counters to share. */
static cvc_status run_alone(const cvc_call *call, int64_t tasks,
                            cvc_task function, void *context) {
  const bool polls = call && call->interrupt;
  double last = polls && tasks > 1 ? cvc_about_now() : 0;
  for (int64_t task = 0; task < tasks; task++) {
    if (polls && task && cvc_about_now() - last >= POLL_SECONDS) {
      if (call->interrupt(call->interrupt_data)) return CVC_INTERRUPTED;
      last = cvc_about_now();
    }
    function(context, task, 0);
  }
  return CVC_OK;
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
  if (threads <= 1 || tasks <= 1)
    return run_alone(call, tasks, function, context);
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
