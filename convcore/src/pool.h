/** What the pooling files share: one pass on channels-last images. */
#ifndef CVC_POOL_H
#define CVC_POOL_H

#include "conv.h"

enum { BYTE_TAPS = 256 }; /* taps that a byte can number */

/** Tables of one thread, in scratch. */
typedef struct pool_space {
  ptrdiff_t *offset;   /* [taps] of the valid taps, from the first, elements */
  ptrdiff_t *position; /* [taps] the same in pixels */
  ptrdiff_t *by_tap;   /* [BYTE_TAPS] offset by tap number */
  int32_t *tap;        /* [taps] number of each valid tap */
  int32_t *row;        /* [BLOCK_PIXELS][c] maxima of a segment */
} pool_space;

/** Neighbouring output pixels with the same valid taps and divisor. */
typedef struct pool_segment {
  cvc_window window;
  int64_t x, y;     /* elements before the first valid tap; before the output */
  int64_t position; /* of the first valid tap in its plane */
  double divisor;
} pool_segment;

typedef struct pool_pass pool_pass;

/** What a pass does with each segment of a row. */
typedef void (*pool_function)(const pool_pass *pass, const pool_space *space,
                              const pool_segment *segment);

/** A pass on n channels-last images with c channels. */
struct pool_pass {
  const cvc_pool *pool;
  const cvc_kernels *kernels;
  pool_function function;
  bool backward;
  int64_t n, c, bytes;       /* bytes of an element */
  const void *from;          /* x or dy */
  void *to;                  /* y or dx */
  void *index;               /* not written by a backward pass */
  const cvc_region *regions; /* of the outputs of a row */
  int64_t n_regions;
  int64_t whole; /* so many windows of a row end inside the padded input */
};

cvc_axis cvc_pool_axis(const cvc_pool *pool, int i);

/** The valid taps of one output of an axis. */
cvc_region cvc_pool_taps(const cvc_axis *axis, int64_t output);

/** Carve a thread's tables from `memory`; their size in bytes. */
int64_t cvc_pool_carve(const pool_pass *pass, char *memory, pool_space *space);

/** Bytes of pass->regions; fill them. */
int64_t cvc_pool_regions_bytes(const cvc_pool *pool);
void cvc_pool_set_regions(pool_pass *pass, cvc_region *regions);

/** Call the pass's function for the outputs of row (d, h) of an image, and
 * `channels` channels from c. */
void cvc_pool_visit_row(const pool_pass *pass, const pool_space *space,
                        int64_t image, int64_t d, int64_t h, int64_t c,
                        int64_t channels);

#endif /* CVC_POOL_H */
