/**
 * Plans: lists of steps whose operands are offsets into spaces. What a kind
 * of step needs and does stands in one row of the table below.
 */
#include <stdlib.h>
#include <string.h>

#include "conv.h"

#define POLL_SECONDS 0.01

struct cvc_plan {
  int64_t n_steps;
  cvc_step steps[];
};

/* ------------------------------------------------------- kinds of steps */

/** What an operand has to be. */
typedef struct expected {
  cvc_dtype dtype;
  int64_t size;
} expected;

typedef struct kind {
  int operands;
  unsigned optional; /* bit i: operand i may be absent */
  /* Check the descriptor and say what the operands have to be. */
  cvc_status (*expect)(const cvc_step *step, expected *operands);
  cvc_status (*run)(const cvc_step *step, void *const *p, const cvc_call *call);
  cvc_status (*scratch)(const cvc_step *step, int threads, int64_t *bytes);
  bool updates; /* parameters: they change all or not at all */
} kind;

/* Convolution */

static cvc_status expect_conv(const cvc_step *step, cvc_pass pass, expected *x,
                              expected *y, expected *w, expected *bias) {
  const cvc_conv *conv = &step->of.conv;
  int64_t out[3];
  CVC_TRY(cvc_conv_output_size(conv, out));
  *x = (expected){conv->dtype, cvc_conv_x_elements(conv)};
  *y = (expected){conv->dtype, cvc_conv_y_extent(conv)};
  *w = (expected){conv->dtype, cvc_conv_w_elements(conv)};
  *bias = (expected){conv->dtype, conv->k};
  if (pass == CVC_BACKWARD_WEIGHT || conv->weights == CVC_WEIGHTS_PLAIN)
    return CVC_OK;
  return cvc_conv_packed_size(conv, pass, &w->size);
}

static cvc_status expect_conv_pack(const cvc_step *step, expected *e) {
  const cvc_conv *conv = &step->of.conv;
  e[1].dtype = conv->dtype;
  CVC_TRY(cvc_conv_packed_size(conv, step->pass, &e[1].size));
  e[0] = (expected){conv->dtype, cvc_conv_w_elements(conv)};
  /* Packed weights are aligned to 64 bytes, as the spaces are. */
  const cvc_operand *packed = &step->operands[1];
  const uint64_t bytes = (uint64_t)cvc_dtype_bytes(packed->dtype);
  return (uint64_t)packed->offset * bytes % 64 ? CVC_BAD_ARGUMENT : CVC_OK;
}

static cvc_status run_conv_pack(const cvc_step *step, void *const *p,
                                const cvc_call *call) {
  return cvc_conv_pack(&step->of.conv, step->pass, p[0], p[1], call);
}

static cvc_status expect_conv_forward(const cvc_step *step, expected *e) {
  CVC_TRY(expect_conv(step, CVC_FORWARD, &e[0], &e[4], &e[1], &e[2]));
  e[3] = e[4];
  return CVC_OK;
}

static cvc_status run_conv_forward(const cvc_step *step, void *const *p,
                                   const cvc_call *call) {
  return cvc_conv_forward(&step->of.conv, p[0], p[1], p[2], p[3], p[4], call);
}

static cvc_status scratch_conv_forward(const cvc_step *step, int threads,
                                       int64_t *bytes) {
  return cvc_conv_scratch(&step->of.conv, CVC_FORWARD, threads, bytes);
}

static cvc_status expect_conv_backward_data(const cvc_step *step, expected *e) {
  expected bias;
  return expect_conv(step, CVC_BACKWARD_DATA, &e[2], &e[0], &e[1], &bias);
}

static cvc_status run_conv_backward_data(const cvc_step *step, void *const *p,
                                         const cvc_call *call) {
  return cvc_conv_backward_data(&step->of.conv, p[0], p[1], p[2], call);
}

static cvc_status scratch_conv_backward_data(const cvc_step *step, int threads,
                                             int64_t *bytes) {
  return cvc_conv_scratch(&step->of.conv, CVC_BACKWARD_DATA, threads, bytes);
}

static cvc_status expect_conv_backward_weight(const cvc_step *step,
                                              expected *e) {
  return expect_conv(step, CVC_BACKWARD_WEIGHT, &e[1], &e[0], &e[2], &e[3]);
}

static cvc_status run_conv_backward_weight(const cvc_step *step, void *const *p,
                                           const cvc_call *call) {
  return cvc_conv_backward_weight(&step->of.conv, p[0], p[1], p[2], p[3], call);
}

static cvc_status scratch_conv_backward_weight(const cvc_step *step,
                                               int threads, int64_t *bytes) {
  return cvc_conv_scratch(&step->of.conv, CVC_BACKWARD_WEIGHT, threads, bytes);
}

/* Pooling */

static cvc_status expect_pool(const cvc_step *step, expected *x, expected *y,
                              expected *indices) {
  const cvc_pool *pool = &step->of.pool;
  CVC_TRY(cvc_pool_check(pool));
  const int64_t images = pool->n * pool->c;
  *x = (expected){pool->dtype, images * cvc_volume(pool->size)};
  *y = (expected){pool->dtype, images * cvc_volume(pool->out)};
  *indices = (expected){pool->index_dtype, y->size};
  return CVC_OK;
}

static cvc_status expect_pool_forward(const cvc_step *step, expected *e) {
  return expect_pool(step, &e[0], &e[1], &e[2]);
}

static cvc_status run_pool_forward(const cvc_step *step, void *const *p,
                                   const cvc_call *call) {
  return cvc_pool_forward(&step->of.pool, p[0], p[1], p[2], call);
}

static cvc_status expect_pool_backward(const cvc_step *step, expected *e) {
  const bool indexed = step->operands[1].space != CVC_SPACE_NONE;
  if (step->of.pool.kind == CVC_POOL_MAX && !indexed) return CVC_BAD_ARGUMENT;
  return expect_pool(step, &e[2], &e[0], &e[1]);
}

static cvc_status run_pool_backward(const cvc_step *step, void *const *p,
                                    const cvc_call *call) {
  return cvc_pool_backward(&step->of.pool, p[0], p[1], p[2], call);
}

static cvc_status scratch_pool(const cvc_step *step, int threads,
                               int64_t *bytes) {
  return cvc_pool_scratch(&step->of.pool, threads, bytes);
}

static cvc_status expect_adaptive_pool(const cvc_step *step, expected *x,
                                       expected *y) {
  const cvc_adaptive_pool *pool = &step->of.adaptive_pool;
  CVC_TRY(cvc_adaptive_pool_check(pool));
  const int64_t images = pool->n * pool->c;
  *x = (expected){pool->dtype, images * cvc_volume(pool->size)};
  *y = (expected){pool->dtype, images * cvc_volume(pool->out)};
  return CVC_OK;
}

static cvc_status expect_adaptive_pool_forward(const cvc_step *step,
                                               expected *e) {
  return expect_adaptive_pool(step, &e[0], &e[1]);
}

static cvc_status run_adaptive_pool_forward(const cvc_step *step,
                                            void *const *p,
                                            const cvc_call *call) {
  return cvc_adaptive_pool_forward(&step->of.adaptive_pool, p[0], p[1], call);
}

static cvc_status expect_adaptive_pool_backward(const cvc_step *step,
                                                expected *e) {
  return expect_adaptive_pool(step, &e[1], &e[0]);
}

static cvc_status run_adaptive_pool_backward(const cvc_step *step,
                                             void *const *p,
                                             const cvc_call *call) {
  return cvc_adaptive_pool_backward(&step->of.adaptive_pool, p[0], p[1], call);
}

static cvc_status scratch_adaptive_pool(const cvc_step *step, int threads,
                                        int64_t *bytes) {
  return cvc_adaptive_pool_scratch(&step->of.adaptive_pool, threads, bytes);
}

/* Batch normalisation */

static cvc_status expect_batch_norm(const cvc_step *step, expected *all,
                                    expected *channels) {
  const cvc_batch_norm *bn = &step->of.batch_norm;
  CVC_TRY(cvc_batch_norm_check(bn));
  *all = (expected){bn->dtype, bn->n * bn->pixels * bn->c};
  *channels = (expected){bn->dtype, bn->c};
  return CVC_OK;
}

static cvc_status expect_batch_norm_forward(const cvc_step *step, expected *e) {
  expected all, channels;
  CVC_TRY(expect_batch_norm(step, &all, &channels));
  for (int i = 0; i < 9; i++)
    e[i] = i == 0 || i == 5 || i == 6 ? all : channels;
  return CVC_OK;
}

static cvc_status run_batch_norm_forward(const cvc_step *step, void *const *p,
                                         const cvc_call *call) {
  return cvc_batch_norm_forward(&step->of.batch_norm, p[0], p[1], p[2], p[3],
                                p[4], p[5], p[6], p[7], p[8], call);
}

static cvc_status expect_batch_norm_backward(const cvc_step *step,
                                             expected *e) {
  expected all, channels;
  CVC_TRY(expect_batch_norm(step, &all, &channels));
  for (int i = 0; i < 11; i++)
    e[i] = i < 3 || i == 7 || i == 10 ? all : channels;
  return CVC_OK;
}

static cvc_status run_batch_norm_backward(const cvc_step *step, void *const *p,
                                          const cvc_call *call) {
  return cvc_batch_norm_backward(&step->of.batch_norm, p[0], p[1], p[2], p[3],
                                 p[4], p[5], p[6], p[7], p[8], p[9], p[10],
                                 call);
}

static cvc_status scratch_batch_norm(const cvc_step *step, int threads,
                                     int64_t *bytes) {
  return cvc_batch_norm_scratch(&step->of.batch_norm, threads, bytes);
}

static cvc_status expect_running_statistics(const cvc_step *step, expected *e) {
  const cvc_operand *mean = &step->operands[0];
  if (!cvc_is_real(mean->dtype)) return CVC_UNSUPPORTED;
  for (int i = 0; i < 8; i++)
    e[i] = i == 4 || i == 7 ? (expected){CVC_I64, 1}
                            : (expected){mean->dtype, mean->size};
  return CVC_OK;
}

static cvc_status run_running_statistics(const cvc_step *step, void *const *p,
                                         const cvc_call *call) {
  (void)call;
  const cvc_operand *mean = &step->operands[0];
  return cvc_running_statistics(mean->dtype, mean->size, step->of.running.count,
                                step->of.running.momentum, p[0], p[1], p[2],
                                p[3], p[4], p[5], p[6], p[7]);
}

/* Local response normalisation, dropout */

static cvc_status expect_lrn(const cvc_step *step, expected *e) {
  const cvc_lrn *lrn = &step->of.lrn;
  CVC_TRY(cvc_lrn_check(lrn));
  for (int i = 0; i < 3; i++)
    e[i] = (expected){lrn->dtype, lrn->pixels * lrn->c};
  return CVC_OK;
}

static cvc_status run_lrn_forward(const cvc_step *step, void *const *p,
                                  const cvc_call *call) {
  return cvc_lrn_forward(&step->of.lrn, p[0], p[1], call);
}

static cvc_status run_lrn_backward(const cvc_step *step, void *const *p,
                                   const cvc_call *call) {
  return cvc_lrn_backward(&step->of.lrn, p[0], p[1], p[2], call);
}

static cvc_status scratch_lrn(const cvc_step *step, int threads,
                              int64_t *bytes) {
  return cvc_lrn_scratch(&step->of.lrn, threads, bytes);
}

static cvc_status expect_dropout(const cvc_step *step, expected *e) {
  const cvc_dropout *dropout = &step->of.dropout;
  CVC_TRY(cvc_dropout_check(dropout));
  e[0] = (expected){CVC_I64, 2};
  e[1] = e[2] = (expected){dropout->dtype, dropout->size};
  return CVC_OK;
}

static cvc_status run_dropout(const cvc_step *step, void *const *p,
                              const cvc_call *call) {
  return cvc_dropout_apply(&step->of.dropout, p[0], p[1], p[2], call);
}

/* Elementwise operations and movement: the first operand gives the size. */

static cvc_status expect_alike(const cvc_step *step, expected *e) {
  const cvc_operand *x = &step->operands[0];
  if (!cvc_is_real(x->dtype)) return CVC_UNSUPPORTED;
  for (int i = 0; i < 3; i++) e[i] = (expected){x->dtype, x->size};
  return CVC_OK;
}

static cvc_status run_relu_forward(const cvc_step *step, void *const *p,
                                   const cvc_call *call) {
  const cvc_operand *x = &step->operands[0];
  return cvc_relu_forward(x->dtype, x->size, p[0], p[1], call);
}

static cvc_status run_relu_backward(const cvc_step *step, void *const *p,
                                    const cvc_call *call) {
  const cvc_operand *dy = &step->operands[0];
  return cvc_relu_backward(dy->dtype, dy->size, p[0], p[1], p[2], call);
}

static cvc_status run_add(const cvc_step *step, void *const *p,
                          const cvc_call *call) {
  const cvc_operand *a = &step->operands[0];
  return cvc_add(a->dtype, a->size, p[0], p[1], p[2], call);
}

static cvc_status expect_transpose(const cvc_step *step, expected *e) {
  const int64_t sizes[] = {step->of.transpose.batch, step->of.transpose.a,
                           step->of.transpose.b};
  e[0].dtype = step->operands[0].dtype;
  CVC_TRY(cvc_elements(e[0].dtype, 3, sizes, &e[0].size));
  e[1] = e[0];
  return CVC_OK;
}

static cvc_status run_transpose(const cvc_step *step, void *const *p,
                                const cvc_call *call) {
  return cvc_transpose(step->operands[0].dtype, step->of.transpose.batch,
                       step->of.transpose.a, step->of.transpose.b, p[0], p[1],
                       call);
}

static cvc_status expect_copy(const cvc_step *step, expected *e) {
  const int64_t rows = step->of.copy.rows, columns = step->of.copy.columns;
  const cvc_dtype dtype = step->operands[0].dtype;
  e[0].dtype = e[1].dtype = dtype;
  CVC_TRY(
      cvc_copy_span(dtype, rows, columns, step->of.copy.x_stride, &e[0].size));
  return cvc_copy_span(dtype, rows, columns, step->of.copy.y_stride,
                       &e[1].size);
}

static cvc_status run_copy(const cvc_step *step, void *const *p,
                           const cvc_call *call) {
  return cvc_copy(step->operands[0].dtype, step->of.copy.rows,
                  step->of.copy.columns, p[0], step->of.copy.x_stride, p[1],
                  step->of.copy.y_stride, call);
}

/* Loss and optimizer */

static cvc_status expect_cross_entropy(const cvc_step *step, expected *e) {
  const cvc_cross_entropy *ce = &step->of.cross_entropy;
  CVC_TRY(cvc_cross_entropy_check(ce));
  e[0] = (expected){ce->dtype, ce->n * ce->classes};
  e[1] = (expected){CVC_I64, ce->n};
  e[2] = (expected){ce->dtype, ce->classes};
  e[3] = (expected){ce->dtype, cvc_cross_entropy_losses(ce)};
  return CVC_OK;
}

static cvc_status run_cross_entropy(const cvc_step *step, void *const *p,
                                    const cvc_call *call) {
  return cvc_cross_entropy_forward(&step->of.cross_entropy, p[0], p[1], p[2],
                                   p[3], call);
}

static cvc_status expect_cross_entropy_backward(const cvc_step *step,
                                                expected *e) {
  CVC_TRY(expect_cross_entropy(step, &e[1]));
  e[0] = e[4];
  e[4] = e[1];
  return CVC_OK;
}

static cvc_status run_cross_entropy_backward(const cvc_step *step,
                                             void *const *p,
                                             const cvc_call *call) {
  return cvc_cross_entropy_backward(&step->of.cross_entropy, p[0], p[1], p[2],
                                    p[3], p[4], call);
}

/* Functions, softmax, group norm, interpolation */

static cvc_status expect_function(const cvc_step *step, expected *e) {
  const cvc_function *function = &step->of.function;
  CVC_TRY(cvc_function_check(function));
  for (int i = 0; i < 3; i++)
    e[i] = (expected){function->dtype, function->size};
  return CVC_OK;
}

static cvc_status run_function_forward(const cvc_step *step, void *const *p,
                                       const cvc_call *call) {
  return cvc_function_forward(&step->of.function, p[0], p[1], call);
}

static cvc_status run_function_backward(const cvc_step *step, void *const *p,
                                        const cvc_call *call) {
  return cvc_function_backward(&step->of.function, p[0], p[1], p[2], call);
}

static cvc_status expect_binary(const cvc_step *step, expected *e) {
  int64_t elements[3];
  CVC_TRY(cvc_binary_check(&step->of.binary, elements));
  for (int i = 0; i < 3; i++)
    e[i] = (expected){step->of.binary.dtype, elements[i]};
  return CVC_OK;
}

static cvc_status run_binary_forward(const cvc_step *step, void *const *p,
                                     const cvc_call *call) {
  return cvc_binary_forward(&step->of.binary, p[0], p[1], p[2], call);
}

static cvc_status expect_softmax(const cvc_step *step, expected *e) {
  const cvc_softmax *softmax = &step->of.softmax;
  CVC_TRY(cvc_softmax_check(softmax));
  const int64_t size = softmax->outer * softmax->length * softmax->inner;
  for (int i = 0; i < 3; i++) e[i] = (expected){softmax->dtype, size};
  return CVC_OK;
}

static cvc_status run_softmax_forward(const cvc_step *step, void *const *p,
                                      const cvc_call *call) {
  return cvc_softmax_forward(&step->of.softmax, p[0], p[1], call);
}

static cvc_status run_softmax_backward(const cvc_step *step, void *const *p,
                                       const cvc_call *call) {
  return cvc_softmax_backward(&step->of.softmax, p[0], p[1], p[2], call);
}

static cvc_status expect_group_norm(const cvc_step *step, expected *e) {
  const cvc_group_norm *norm = &step->of.group_norm;
  CVC_TRY(cvc_group_norm_check(norm));
  e[0] = e[3] = (expected){norm->dtype, norm->n * norm->c * norm->space};
  e[1] = e[2] = (expected){norm->dtype, norm->c};
  return CVC_OK;
}

static cvc_status run_group_norm_forward(const cvc_step *step, void *const *p,
                                         const cvc_call *call) {
  return cvc_group_norm_forward(&step->of.group_norm, p[0], p[1], p[2], p[3],
                                call);
}

static cvc_status expect_group_norm_backward(const cvc_step *step,
                                             expected *e) {
  CVC_TRY(expect_group_norm(step, e));
  const expected whole = e[0], channels = e[1];
  e[1] = e[3] = whole;
  e[2] = e[4] = e[5] = channels;
  return CVC_OK;
}

static cvc_status run_group_norm_backward(const cvc_step *step, void *const *p,
                                          const cvc_call *call) {
  return cvc_group_norm_backward(&step->of.group_norm, p[0], p[1], p[2], p[3],
                                 p[4], p[5], call);
}

static cvc_status expect_interpolate(const cvc_step *step, expected *e) {
  const cvc_interpolate *i = &step->of.interpolate;
  CVC_TRY(cvc_interpolate_check(i));
  e[0] = (expected){i->dtype, i->n * i->c * cvc_volume(i->size)};
  e[1] = (expected){i->dtype, i->n * i->c * cvc_volume(i->out)};
  return CVC_OK;
}

static cvc_status run_interpolate_forward(const cvc_step *step, void *const *p,
                                          const cvc_call *call) {
  return cvc_interpolate_forward(&step->of.interpolate, p[0], p[1], call);
}

static cvc_status expect_interpolate_backward(const cvc_step *step,
                                              expected *e) {
  CVC_TRY(expect_interpolate(step, e));
  const expected x = e[0];
  e[0] = e[1];
  e[1] = x;
  return CVC_OK;
}

static cvc_status run_interpolate_backward(const cvc_step *step, void *const *p,
                                           const cvc_call *call) {
  return cvc_interpolate_backward(&step->of.interpolate, p[0], p[1], call);
}

static cvc_status expect_optimizer(const cvc_step *step, int64_t hyper,
                                   expected *e) {
  const cvc_operand *p = &step->operands[2];
  if (!cvc_is_real(p->dtype)) return CVC_UNSUPPORTED;
  e[0] = (expected){CVC_F64, hyper};
  for (int i = 1; i < 5; i++) e[i] = (expected){p->dtype, p->size};
  return CVC_OK;
}

/** A hyperparameter that counts; -1 when it is no such number. */
static int64_t whole(double value) {
  return value >= 0 && value < 0x1p53 ? (int64_t)value : -1;
}

static cvc_status expect_sgd(const cvc_step *step, expected *e) {
  return expect_optimizer(step, 7, e);
}

static cvc_status run_sgd(const cvc_step *step, void *const *p,
                          const cvc_call *call) {
  const double *hyper = p[0];
  const cvc_sgd sgd = {.lr = hyper[0],
                       .momentum = hyper[1],
                       .dampening = hyper[2],
                       .weight_decay = hyper[3],
                       .gradient_scale = hyper[4],
                       .nesterov = hyper[5] != 0,
                       .step = whole(hyper[6])};
  const cvc_operand *parameters = &step->operands[2];
  return cvc_sgd_step(parameters->dtype, parameters->size, &sgd, p[1], p[2],
                      p[3], call);
}

static cvc_status expect_adam(const cvc_step *step, expected *e) {
  return expect_optimizer(step, 8, e);
}

static cvc_status run_adam(const cvc_step *step, void *const *p,
                           const cvc_call *call) {
  const double *hyper = p[0];
  const cvc_adam adam = {.lr = hyper[0],
                         .beta1 = hyper[1],
                         .beta2 = hyper[2],
                         .eps = hyper[3],
                         .weight_decay = hyper[4],
                         .gradient_scale = hyper[5],
                         .decoupled = hyper[6] != 0,
                         .step = whole(hyper[7])};
  const cvc_operand *parameters = &step->operands[2];
  return cvc_adam_step(parameters->dtype, parameters->size, &adam, p[1], p[2],
                       p[3], p[4], call);
}

static cvc_status expect_rmsprop(const cvc_step *step, expected *e) {
  return expect_optimizer(step, 6, e);
}

static cvc_status run_rmsprop(const cvc_step *step, void *const *p,
                              const cvc_call *call) {
  const double *hyper = p[0];
  const cvc_rmsprop rmsprop = {.lr = hyper[0],
                               .alpha = hyper[1],
                               .eps = hyper[2],
                               .weight_decay = hyper[3],
                               .momentum = hyper[4],
                               .gradient_scale = hyper[5]};
  const cvc_operand *parameters = &step->operands[2];
  return cvc_rmsprop_step(parameters->dtype, parameters->size, &rmsprop, p[1],
                          p[2], p[3], p[4], call);
}

#define OPTIONAL(i) (1U << (i))

static const kind kinds[CVC_STEP_KINDS] = {
    [CVC_STEP_CONV_PACK] = {2, 0, expect_conv_pack, run_conv_pack},
    [CVC_STEP_CONV_FORWARD] = {5, OPTIONAL(2) | OPTIONAL(3),
                               expect_conv_forward, run_conv_forward,
                               scratch_conv_forward},
    [CVC_STEP_CONV_BACKWARD_DATA] = {3, 0, expect_conv_backward_data,
                                     run_conv_backward_data,
                                     scratch_conv_backward_data},
    [CVC_STEP_CONV_BACKWARD_WEIGHT] = {4, OPTIONAL(2) | OPTIONAL(3),
                                       expect_conv_backward_weight,
                                       run_conv_backward_weight,
                                       scratch_conv_backward_weight},
    [CVC_STEP_POOL_FORWARD] = {3, OPTIONAL(2), expect_pool_forward,
                               run_pool_forward, scratch_pool},
    [CVC_STEP_POOL_BACKWARD] = {3, OPTIONAL(1), expect_pool_backward,
                                run_pool_backward, scratch_pool},
    [CVC_STEP_ADAPTIVE_POOL_FORWARD] = {2, 0, expect_adaptive_pool_forward,
                                        run_adaptive_pool_forward,
                                        scratch_adaptive_pool},
    [CVC_STEP_ADAPTIVE_POOL_BACKWARD] = {2, 0, expect_adaptive_pool_backward,
                                         run_adaptive_pool_backward,
                                         scratch_adaptive_pool},
    [CVC_STEP_BATCH_NORM_FORWARD] = {9,
                                     OPTIONAL(1) | OPTIONAL(2) | OPTIONAL(3) |
                                         OPTIONAL(4) | OPTIONAL(5) |
                                         OPTIONAL(7) | OPTIONAL(8),
                                     expect_batch_norm_forward,
                                     run_batch_norm_forward,
                                     scratch_batch_norm},
    [CVC_STEP_BATCH_NORM_BACKWARD] = {11,
                                      OPTIONAL(2) | OPTIONAL(3) | OPTIONAL(4) |
                                          OPTIONAL(7) | OPTIONAL(8) |
                                          OPTIONAL(9) | OPTIONAL(10),
                                      expect_batch_norm_backward,
                                      run_batch_norm_backward,
                                      scratch_batch_norm},
    [CVC_STEP_RUNNING_STATISTICS] = {8, OPTIONAL(4) | OPTIONAL(7),
                                     expect_running_statistics,
                                     run_running_statistics, .updates = true},
    [CVC_STEP_LRN_FORWARD] = {2, 0, expect_lrn, run_lrn_forward, scratch_lrn},
    [CVC_STEP_LRN_BACKWARD] = {3, 0, expect_lrn, run_lrn_backward, scratch_lrn},
    [CVC_STEP_DROPOUT] = {3, 0, expect_dropout, run_dropout},
    [CVC_STEP_RELU_FORWARD] = {2, 0, expect_alike, run_relu_forward},
    [CVC_STEP_RELU_BACKWARD] = {3, 0, expect_alike, run_relu_backward},
    [CVC_STEP_ADD] = {3, 0, expect_alike, run_add},
    [CVC_STEP_TRANSPOSE] = {2, 0, expect_transpose, run_transpose},
    [CVC_STEP_COPY] = {2, 0, expect_copy, run_copy},
    [CVC_STEP_CROSS_ENTROPY_FORWARD] = {4, OPTIONAL(2), expect_cross_entropy,
                                        run_cross_entropy},
    [CVC_STEP_CROSS_ENTROPY_BACKWARD] = {5, OPTIONAL(3),
                                         expect_cross_entropy_backward,
                                         run_cross_entropy_backward},
    [CVC_STEP_FUNCTION_FORWARD] = {2, 0, expect_function, run_function_forward},
    [CVC_STEP_FUNCTION_BACKWARD] = {3, 0, expect_function,
                                    run_function_backward},
    [CVC_STEP_BINARY_FORWARD] = {3, 0, expect_binary, run_binary_forward},
    [CVC_STEP_SOFTMAX_FORWARD] = {2, 0, expect_softmax, run_softmax_forward},
    [CVC_STEP_SOFTMAX_BACKWARD] = {3, 0, expect_softmax, run_softmax_backward},
    [CVC_STEP_GROUP_NORM_FORWARD] = {4, OPTIONAL(1) | OPTIONAL(2),
                                     expect_group_norm, run_group_norm_forward},
    [CVC_STEP_GROUP_NORM_BACKWARD] = {6,
                                      OPTIONAL(2) | OPTIONAL(4) | OPTIONAL(5),
                                      expect_group_norm_backward,
                                      run_group_norm_backward},
    [CVC_STEP_INTERPOLATE_BACKWARD] = {2, 0, expect_interpolate_backward,
                                       run_interpolate_backward},
    [CVC_STEP_INTERPOLATE_FORWARD] = {2, 0, expect_interpolate,
                                      run_interpolate_forward},
    [CVC_STEP_SGD] = {4, OPTIONAL(3), expect_sgd, run_sgd, .updates = true},
    [CVC_STEP_ADAM] = {5, 0, expect_adam, run_adam, .updates = true},
    [CVC_STEP_RMSPROP] = {5, OPTIONAL(4), expect_rmsprop, run_rmsprop,
                          .updates = true},
};

/* --------------------------------------------------------- a single step */

cvc_status cvc_step_operands(const cvc_step *step,
                             cvc_operand operands[CVC_MAX_OPERANDS],
                             int *count) {
  if (!step || !operands || !count || step->kind < 0 ||
      step->kind >= CVC_STEP_KINDS)
    return CVC_BAD_ARGUMENT;
  expected expected[CVC_MAX_OPERANDS] = {{0}};
  CVC_TRY(kinds[step->kind].expect(step, expected));
  *count = kinds[step->kind].operands;
  for (int i = 0; i < *count; i++)
    operands[i] =
        (cvc_operand){.dtype = expected[i].dtype, .size = expected[i].size};
  return CVC_OK;
}

cvc_status cvc_step_run(const cvc_step *step, void *const *arrays,
                        const cvc_call *call) {
  if (!step || !arrays || step->kind < 0 || step->kind >= CVC_STEP_KINDS)
    return CVC_BAD_ARGUMENT;
  return kinds[step->kind].run(step, arrays, call);
}

/* ----------------------------------------------------------------- create */

/** The spaces as the caller declares them. */
typedef struct spaces {
  const int64_t *bytes, *external_bytes;
  int64_t n_external;
} spaces;

static cvc_status check_operand(const cvc_operand *operand,
                                const expected *expected,
                                const spaces *declared) {
  if (operand->space < CVC_SPACE_ARENA || operand->space > CVC_SPACE_EXTERNAL)
    return CVC_BAD_ARGUMENT;
  const bool external = operand->space == CVC_SPACE_EXTERNAL;
  if (operand->index < 0 ||
      operand->index >= (external ? declared->n_external : 1))
    return CVC_BAD_ARGUMENT;
  const int64_t bytes = cvc_dtype_bytes(operand->dtype);
  if (!bytes) return CVC_BAD_ARGUMENT;
  if (operand->dtype != expected->dtype) return CVC_UNSUPPORTED;
  if (operand->size < 0 || operand->offset < 0) return CVC_BAD_ARGUMENT;
  if (operand->size != expected->size) return CVC_BAD_SHAPE;
  const int64_t room = external ? declared->external_bytes[operand->index]
                                : declared->bytes[operand->space];
  if (operand->offset > room / bytes - operand->size) return CVC_BAD_SHAPE;
  return CVC_OK;
}

static cvc_status check_step(const cvc_step *step, const spaces *declared) {
  if (step->kind < 0 || step->kind >= CVC_STEP_KINDS) return CVC_BAD_ARGUMENT;
  const kind *k = &kinds[step->kind];
  expected expected[CVC_MAX_OPERANDS];
  CVC_TRY(k->expect(step, expected));
  for (int i = 0; i < CVC_MAX_OPERANDS; i++) {
    const cvc_operand *operand = &step->operands[i];
    const bool absent = operand->space == CVC_SPACE_NONE;
    if (i >= k->operands && !absent) return CVC_BAD_ARGUMENT;
    if (i < k->operands && absent && !(k->optional & OPTIONAL(i)))
      return CVC_BAD_ARGUMENT;
    if (!absent) CVC_TRY(check_operand(operand, &expected[i], declared));
  }
  return CVC_OK;
}

static cvc_status check_spaces(const spaces *declared) {
  if (declared->n_external < 0 ||
      (declared->n_external && !declared->external_bytes))
    return CVC_BAD_ARGUMENT;
  for (int i = CVC_SPACE_ARENA; i < CVC_SPACE_EXTERNAL; i++)
    if (declared->bytes[i] < 0) return CVC_BAD_ARGUMENT;
  for (int64_t i = 0; i < declared->n_external; i++)
    if (declared->external_bytes[i] < 0) return CVC_BAD_ARGUMENT;
  return CVC_OK;
}

cvc_status cvc_plan_create(const cvc_step *steps, int64_t n_steps,
                           const int64_t space_bytes[CVC_SPACE_EXTERNAL + 1],
                           const int64_t *external_bytes, int64_t n_external,
                           cvc_plan **plan, int64_t *bad_step) {
  if (bad_step) *bad_step = -1;
  if (!plan || n_steps < 0 || (n_steps && !steps) || !space_bytes)
    return CVC_BAD_ARGUMENT;
  const spaces declared = {space_bytes, external_bytes, n_external};
  CVC_TRY(check_spaces(&declared));
  for (int64_t i = 0; i < n_steps; i++) {
    if (bad_step) *bad_step = i;
    CVC_TRY(check_step(&steps[i], &declared));
  }
  if (bad_step) *bad_step = -1;
  int64_t bytes = sizeof(cvc_step);
  CVC_TRY(cvc_multiply(&bytes, n_steps));
  cvc_plan *made = malloc(sizeof *made + (size_t)bytes);
  if (!made) return CVC_NO_MEMORY;
  made->n_steps = n_steps;
  if (n_steps) memcpy(made->steps, steps, (size_t)bytes);
  *plan = made;
  return CVC_OK;
}

void cvc_plan_destroy(cvc_plan *plan) { free(plan); }

/* -------------------------------------------------------------------- run */

static cvc_status check_range(const cvc_plan *plan, int64_t first,
                              int64_t last) {
  return plan && first >= 0 && first <= last && last <= plan->n_steps
             ? CVC_OK
             : CVC_BAD_ARGUMENT;
}

cvc_status cvc_plan_scratch(const cvc_plan *plan, int64_t first, int64_t last,
                            int threads, int64_t *scratch_bytes) {
  CVC_TRY(check_range(plan, first, last));
  if (threads < 0 || !scratch_bytes) return CVC_BAD_ARGUMENT;
  int64_t most = 0;
  for (int64_t i = first; i < last; i++) {
    const cvc_step *step = &plan->steps[i];
    int64_t bytes = 0;
    if (kinds[step->kind].scratch)
      CVC_TRY(kinds[step->kind].scratch(step, threads, &bytes));
    most = cvc_max(most, bytes);
  }
  *scratch_bytes = most;
  return CVC_OK;
}

/** Start of an operand's space; NULL where there is none. */
static void *space_of(const cvc_memory *memory, const cvc_operand *operand) {
  switch (operand->space) {
    case CVC_SPACE_NONE: return NULL;
    case CVC_SPACE_ARENA: return memory->arena;
    case CVC_SPACE_PARAMETERS: return memory->parameters;
    case CVC_SPACE_GRADIENTS: return memory->gradients;
    case CVC_SPACE_STATE: return memory->state;
    case CVC_SPACE_EXTERNAL:
      return memory->external ? memory->external[operand->index] : NULL;
  }
  return NULL;
}

static void *resolve(const cvc_memory *memory, const cvc_operand *operand) {
  void *space = space_of(memory, operand);
  return space ? cvc_at(space, operand->offset, cvc_dtype_bytes(operand->dtype))
               : NULL;
}

/** Every space that the steps use is there and aligned. */
static cvc_status check_memory(const cvc_plan *plan, int64_t first,
                               int64_t last, const cvc_memory *memory) {
  for (int64_t i = first; i < last; i++)
    for (int j = 0; j < kinds[plan->steps[i].kind].operands; j++) {
      const cvc_operand *operand = &plan->steps[i].operands[j];
      if (operand->space == CVC_SPACE_NONE || operand->size == 0) continue;
      const void *space = space_of(memory, operand);
      const int64_t alignment = operand->space == CVC_SPACE_EXTERNAL
                                    ? cvc_dtype_bytes(operand->dtype)
                                    : 64;
      if (!space || (uintptr_t)space % (uintptr_t)alignment)
        return CVC_BAD_ARGUMENT;
    }
  return CVC_OK;
}

static cvc_status run_step(const cvc_step *step, const cvc_memory *memory,
                           const cvc_call *call) {
  void *p[CVC_MAX_OPERANDS] = {NULL};
  for (int i = 0; i < kinds[step->kind].operands; i++)
    p[i] = resolve(memory, &step->operands[i]);
  return kinds[step->kind].run(step, p, call);
}

/**
 * Steps are short: each would end before it first polls, so the interrupt is
 * also polled between them. Not once an update has begun: parameters change
 * in one piece.
 */
static cvc_status run_steps(const cvc_plan *plan, int64_t first, int64_t last,
                            const cvc_memory *memory, cvc_call *call,
                            double *seconds, int64_t *at) {
  double polled = cvc_now(), begin = polled;
  for (*at = first; *at < last; ++*at) {
    const cvc_step *step = &plan->steps[*at];
    if (kinds[step->kind].updates) call->interrupt = NULL;
    if (call->interrupt && begin - polled >= POLL_SECONDS) {
      if (call->interrupt(call->interrupt_data)) return CVC_INTERRUPTED;
      polled = begin;
    }
    CVC_TRY(run_step(step, memory, call));
    const double end = cvc_now();
    if (seconds) seconds[*at - first] = end - begin;
    begin = end;
  }
  return CVC_OK;
}

cvc_status cvc_plan_run(const cvc_plan *plan, int64_t first, int64_t last,
                        const cvc_memory *memory, const cvc_call *call,
                        double *seconds, int64_t *failed_step) {
  if (failed_step) *failed_step = -1;
  CVC_TRY(check_range(plan, first, last));
  if (!memory) return CVC_BAD_ARGUMENT;
  CVC_TRY(check_memory(plan, first, last, memory));
  /* One thread count and one block of scratch for all steps. */
  cvc_call all = call ? *call : (cvc_call){0};
  if (all.threads <= 0) all.threads = cvc_get_num_threads();
  /* That of the caller is checked by the steps that need it. */
  int64_t bytes = all.scratch_bytes;
  if (!all.scratch)
    CVC_TRY(cvc_plan_scratch(plan, first, last, all.threads, &bytes));
  cvc_scratch scratch;
  CVC_TRY(cvc_scratch_begin(&scratch, call, bytes));
  all.scratch = scratch.memory;
  all.scratch_bytes = bytes;
  int64_t at;
  cvc_status status = run_steps(plan, first, last, memory, &all, seconds, &at);
  cvc_scratch_end(&scratch);
  if (failed_step && status != CVC_OK) *failed_step = at;
  return status;
}
