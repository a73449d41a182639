/** What the pooling files share: one pass on channels-last images. */
#ifndef CVC_POOL_H
#define CVC_POOL_H

#include "internal.h"

/**
 * One tap of an axis. Its source index in period m is m*step + offset, inside
 * the source for first <= m < last; the window is that of output m + output.
 */
typedef struct pool_tap {
  int64_t number, offset, first, last, output;
} pool_tap;

/**
 * One axis of a pass: its targets are the outputs, or backward the elements of
 * dx. Target i is in phase i % phases of period i / phases; all targets of a
 * phase have the same taps, but for those outside the source. Forward there is
 * one phase, backward one for each remainder modulo the stride.
 */
typedef struct pool_axis {
  int64_t targets, phases, sources, step;
  pool_tap *taps; /* in the order of their sources, */
  int64_t *begin; /* those of phase f: begin[f]..begin[f + 1] - 1 */
  /* Outputs whose average divides by the number of all taps. */
  int64_t full_first, full_last;
} pool_axis;

/** Periods first..first+count-1 of the first `phases` phases of an axis, all
 * with the same valid taps and divisors. */
typedef struct pool_run {
  int64_t phases, first, count;
} pool_run;

/** Tables of one thread, in scratch: of a segment, tap by tap. */
typedef struct pool_space {
  ptrdiff_t *offset;   /* from the first tap, in elements */
  ptrdiff_t *position; /* the same in pixels */
  ptrdiff_t *end;      /* [targets of a period] */
  double *weight;      /* 1 / the divisor of the tap's window */
  int32_t *tap;        /* its number */
  int32_t *row;        /* [POOL_BLOCK_PIXELS][c] maxima of a row */
} pool_space;

/** Neighbouring targets with the same valid taps and divisors. */
typedef struct pool_segment {
  cvc_window window;
  int64_t x, y;     /* elements before the first source; before the target */
  int64_t position; /* of the first source in its plane */
  double divisor;   /* of a forward pass */
} pool_segment;

typedef struct pool_pass pool_pass;

/** What a pass does with each segment. */
typedef void (*pool_function)(const pool_pass *pass, const pool_space *space,
                              const pool_segment *segment);

/** A pass on n channels-last images with c channels. */
struct pool_pass {
  cvc_pool pool;
  const cvc_kernels *kernels;
  pool_function function;
  bool backward;
  bool stream; /* targets of whole lines, which the caches would not keep */
  int64_t n, c, bytes; /* bytes of an element */
  const void *from;    /* x or dy */
  void *to;            /* y or dx */
  void *index;         /* not written by a backward pass */
  pool_axis axes[3];
};

/** Images sorted by phase, and the taps of their outputs: pool_phases.c. */
typedef struct pool_phases {
  bool pairs; /* pixels are taken where they are: places are those of outputs */
  int64_t channels, places[3], phases;
  int64_t image, images; /* elements of an image in a phase; images of a task */
  int64_t step;          /* from a phase to the next */
  ptrdiff_t *offset;     /* of each tap's sources */
  ptrdiff_t *position;   /* the same in pixels of a plane */
  int32_t *tap;
} pool_phases;

/** A vector of a row of dx, from element `target` on: its terms in the table,
 * whose sources lie `source` further than said there. */
typedef struct pool_pick {
  ptrdiff_t target, source;
  int32_t first, terms;
} pool_pick;

/** What picks the sources of a row of dx: pool_picks.c. */
typedef struct pool_picks {
  int64_t channels, images, rows; /* of an image; images, rows of a task */
  int64_t parts;                  /* of an image */
  int64_t vectors, terms;         /* of a row; there is room for */
  pool_pick *vector;
  ptrdiff_t *source; /* [terms] the first in a row */
  uint8_t *lane;     /* [terms][vector length] */
  uint8_t *tap;      /* [rows of taps][terms][vector length]; the last: none */
} pool_picks;

/** As many windows as pixels: pool_shift.c. */
typedef struct pool_shift {
  int64_t channels, size; /* elements of all images */
  int64_t before, after;  /* sources of an element: in front of it, behind it */
  int64_t taps;
  ptrdiff_t *offset; /* of each tap's source */
  int32_t *tap;
} pool_shift;

enum { POOL_BLOCK_PIXELS = 4096 }; /* of a row; bounds the working memory */

/** Whether targets go past the caches: those would not keep both arrays. */
bool cvc_pool_exceeds_caches(const pool_pass *pass);

/** Where a tap lies in its window, in elements of the input. */
void cvc_pool_place(const cvc_pool *pool, int64_t tap, int64_t place[3]);

/** Taps of a window of axis i that lie inside the input. */
int64_t cvc_pool_valid_taps(const cvc_pool *pool, int i, int64_t output);

/** Carve a thread's tables from `memory`; their size in bytes. */
int64_t cvc_pool_carve(const pool_pass *pass, char *memory, pool_space *space);

/** Bytes of the tables of pass->axes; carve and fill them. */
int64_t cvc_pool_axes_bytes(const pool_pass *pass);
void cvc_pool_set_axes(pool_pass *pass, char *memory);

/** What the average of an output divides by; pass->axes are set. */
double cvc_pool_divisor(const pool_pass *pass, const int64_t output[3]);

/** Whether the tap has its source inside in a period. */
bool cvc_pool_is_valid(const pool_tap *tap, int64_t period);

/** The run of periods that begins with `first` and ends before `last`. The last
 * period of an axis may have fewer phases, and is a run of its own then. */
pool_run cvc_pool_next_run(const pool_axis *axis, int64_t first, int64_t last);

/** Rows of periods of an image. */
int64_t cvc_pool_rows(const pool_pass *pass);

/** Call the pass's function for rows first..last-1 of periods of all images. */
void cvc_pool_visit(const pool_pass *pass, const pool_space *space,
                    int64_t first, int64_t last);

/**
 * Passes on images of few channels, planes of channels-first arrays or
 * channels-last ones with less than a vector, with pixels in the lanes. Each
 * way has a file of its own.
 */
typedef struct pool_few {
  int64_t tasks;
  union {
    pool_phases phases;
    pool_picks picks;
    pool_shift shift;
  };
} pool_few;

typedef struct pool_few_way {
  /* Whether it can do a pass, and is worth it. */
  bool (*serves)(const pool_pass *pass, int64_t channels);
  void (*set)(const pool_pass *pass, int64_t channels, pool_few *few);
  /* Bytes of the tables, which are carved and filled. */
  int64_t (*tables_bytes)(const pool_pass *pass, const pool_few *few);
  void (*set_tables)(pool_pass *pass, pool_few *few, char *memory);
  /* Bytes of a thread's memory; NULL: it is ready for tasks as it is. */
  int64_t (*bytes)(const pool_pass *pass, const pool_few *few);
  void (*clear)(const pool_pass *pass, const pool_few *few, char *memory);
  void (*task)(const pool_pass *pass, const pool_few *few, int64_t task,
               char *memory);
} pool_few_way;

extern const pool_few_way cvc_pool_phases;
extern const pool_few_way cvc_pool_picks;
extern const pool_few_way cvc_pool_shift;

#endif /* CVC_POOL_H */
