/**
 * The kinds of steps of a plan: what a kind needs and does stands in one row
 * of the table below.
 */
#include "step.h"

#include "conv.h"

/* Convolution */

static cvc_status expect_conv(const cvc_step *step, cvc_pass pass,
                              cvc_expected *x, cvc_expected *y, cvc_expected *w,
                              cvc_expected *bias) {
  const cvc_conv *conv = &step->of.conv;
  int64_t out[3];
  CVC_TRY(cvc_conv_output_size(conv, out));
  *x = (cvc_expected){conv->dtype, cvc_conv_x_elements(conv)};
  *y = (cvc_expected){conv->dtype, cvc_conv_y_extent(conv)};
  *w = (cvc_expected){conv->dtype, cvc_conv_w_elements(conv)};
  *bias = (cvc_expected){conv->dtype, conv->k};
  if (pass == CVC_BACKWARD_WEIGHT || conv->weights == CVC_WEIGHTS_PLAIN)
    return CVC_OK;
  return cvc_conv_packed_size(conv, pass, &w->size);
}

static cvc_status expect_conv_pack(const cvc_step *step, cvc_expected *e) {
  const cvc_conv *conv = &step->of.conv;
  e[1].dtype = conv->dtype;
  CVC_TRY(cvc_conv_packed_size(conv, step->pass, &e[1].size));
  e[0] = (cvc_expected){conv->dtype, cvc_conv_w_elements(conv)};
  /* Packed weights are aligned to 64 bytes, as the spaces are. */
  const cvc_operand *packed = &step->operands[1];
  const uint64_t bytes = (uint64_t)cvc_dtype_bytes(packed->dtype);
  return (uint64_t)packed->offset * bytes % 64 ? CVC_BAD_ARGUMENT : CVC_OK;
}

static cvc_status run_conv_pack(const cvc_step *step, void *const *p,
                                const cvc_call *call) {
  return cvc_conv_pack(&step->of.conv, step->pass, p[0], p[1], call);
}

static cvc_status expect_conv_forward(const cvc_step *step, cvc_expected *e) {
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

static cvc_status expect_conv_backward_data(const cvc_step *step,
                                            cvc_expected *e) {
  cvc_expected bias;
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
                                              cvc_expected *e) {
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

static cvc_status expect_pool(const cvc_step *step, cvc_expected *x,
                              cvc_expected *y, cvc_expected *indices) {
  const cvc_pool *pool = &step->of.pool;
  CVC_TRY(cvc_pool_check(pool));
  const int64_t images = pool->n * pool->c;
  *x = (cvc_expected){pool->dtype, images * cvc_volume(pool->size)};
  *y = (cvc_expected){pool->dtype, images * cvc_volume(pool->out)};
  *indices = (cvc_expected){pool->index_dtype, y->size};
  return CVC_OK;
}

static cvc_status expect_pool_forward(const cvc_step *step, cvc_expected *e) {
  return expect_pool(step, &e[0], &e[1], &e[2]);
}

static cvc_status run_pool_forward(const cvc_step *step, void *const *p,
                                   const cvc_call *call) {
  return cvc_pool_forward(&step->of.pool, p[0], p[1], p[2], call);
}

static cvc_status expect_pool_backward(const cvc_step *step, cvc_expected *e) {
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

static cvc_status expect_adaptive_pool(const cvc_step *step, cvc_expected *x,
                                       cvc_expected *y) {
  const cvc_adaptive_pool *pool = &step->of.adaptive_pool;
  CVC_TRY(cvc_adaptive_pool_check(pool));
  const int64_t images = pool->n * pool->c;
  *x = (cvc_expected){pool->dtype, images * cvc_volume(pool->size)};
  *y = (cvc_expected){pool->dtype, images * cvc_volume(pool->out)};
  return CVC_OK;
}

static cvc_status expect_adaptive_pool_forward(const cvc_step *step,
                                               cvc_expected *e) {
  return expect_adaptive_pool(step, &e[0], &e[1]);
}

static cvc_status run_adaptive_pool_forward(const cvc_step *step,
                                            void *const *p,
                                            const cvc_call *call) {
  return cvc_adaptive_pool_forward(&step->of.adaptive_pool, p[0], p[1], call);
}

static cvc_status expect_adaptive_pool_backward(const cvc_step *step,
                                                cvc_expected *e) {
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

static cvc_status expect_batch_norm(const cvc_step *step, cvc_expected *all,
                                    cvc_expected *channels) {
  const cvc_batch_norm *bn = &step->of.batch_norm;
  CVC_TRY(cvc_batch_norm_check(bn));
  *all = (cvc_expected){bn->dtype, bn->n * bn->pixels * bn->c};
  *channels = (cvc_expected){bn->dtype, bn->c};
  return CVC_OK;
}

static cvc_status expect_batch_norm_forward(const cvc_step *step,
                                            cvc_expected *e) {
  cvc_expected all, channels;
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
                                             cvc_expected *e) {
  cvc_expected all, channels;
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

static cvc_status expect_running_statistics(const cvc_step *step,
                                            cvc_expected *e) {
  const cvc_operand *mean = &step->operands[0];
  if (!cvc_is_real(mean->dtype)) return CVC_UNSUPPORTED;
  for (int i = 0; i < 8; i++)
    e[i] = i == 4 || i == 7 ? (cvc_expected){CVC_I64, 1}
                            : (cvc_expected){mean->dtype, mean->size};
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

static cvc_status expect_lrn(const cvc_step *step, cvc_expected *e) {
  const cvc_lrn *lrn = &step->of.lrn;
  CVC_TRY(cvc_lrn_check(lrn));
  for (int i = 0; i < 3; i++)
    e[i] = (cvc_expected){lrn->dtype, lrn->pixels * lrn->c};
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

static cvc_status expect_dropout(const cvc_step *step, cvc_expected *e) {
  const cvc_dropout *dropout = &step->of.dropout;
  CVC_TRY(cvc_dropout_check(dropout));
  e[0] = (cvc_expected){CVC_I64, 2};
  e[1] = e[2] = (cvc_expected){dropout->dtype, dropout->size};
  return CVC_OK;
}

static cvc_status run_dropout(const cvc_step *step, void *const *p,
                              const cvc_call *call) {
  return cvc_dropout_apply(&step->of.dropout, p[0], p[1], p[2], call);
}

/* Elementwise operations and movement: the first operand gives the size. */

static cvc_status expect_alike(const cvc_step *step, cvc_expected *e) {
  const cvc_operand *x = &step->operands[0];
  if (!cvc_is_real(x->dtype)) return CVC_UNSUPPORTED;
  for (int i = 0; i < 3; i++) e[i] = (cvc_expected){x->dtype, x->size};
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

static cvc_status expect_transpose(const cvc_step *step, cvc_expected *e) {
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

static cvc_status expect_copy(const cvc_step *step, cvc_expected *e) {
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

static cvc_status expect_cross_entropy(const cvc_step *step, cvc_expected *e) {
  const cvc_cross_entropy *ce = &step->of.cross_entropy;
  CVC_TRY(cvc_cross_entropy_check(ce));
  e[0] = (cvc_expected){ce->dtype, ce->n * ce->classes};
  e[1] = (cvc_expected){CVC_I64, ce->n};
  e[2] = (cvc_expected){ce->dtype, ce->classes};
  e[3] = (cvc_expected){ce->dtype, cvc_cross_entropy_losses(ce)};
  return CVC_OK;
}

static cvc_status run_cross_entropy(const cvc_step *step, void *const *p,
                                    const cvc_call *call) {
  return cvc_cross_entropy_forward(&step->of.cross_entropy, p[0], p[1], p[2],
                                   p[3], call);
}

static cvc_status expect_cross_entropy_backward(const cvc_step *step,
                                                cvc_expected *e) {
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

static cvc_status expect_function(const cvc_step *step, cvc_expected *e) {
  const cvc_function *function = &step->of.function;
  CVC_TRY(cvc_function_check(function));
  for (int i = 0; i < 3; i++)
    e[i] = (cvc_expected){function->dtype, function->size};
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

static cvc_status expect_binary(const cvc_step *step, cvc_expected *e) {
  int64_t elements[3];
  CVC_TRY(cvc_binary_check(&step->of.binary, elements));
  for (int i = 0; i < 3; i++)
    e[i] = (cvc_expected){step->of.binary.dtype, elements[i]};
  return CVC_OK;
}

static cvc_status run_binary_forward(const cvc_step *step, void *const *p,
                                     const cvc_call *call) {
  return cvc_binary_forward(&step->of.binary, p[0], p[1], p[2], call);
}

static cvc_status expect_softmax(const cvc_step *step, cvc_expected *e) {
  const cvc_softmax *softmax = &step->of.softmax;
  CVC_TRY(cvc_softmax_check(softmax));
  const int64_t size = softmax->outer * softmax->length * softmax->inner;
  for (int i = 0; i < 3; i++) e[i] = (cvc_expected){softmax->dtype, size};
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

static cvc_status expect_group_norm(const cvc_step *step, cvc_expected *e) {
  const cvc_group_norm *norm = &step->of.group_norm;
  CVC_TRY(cvc_group_norm_check(norm));
  e[0] = e[3] = (cvc_expected){norm->dtype, norm->n * norm->c * norm->space};
  e[1] = e[2] = (cvc_expected){norm->dtype, norm->c};
  return CVC_OK;
}

static cvc_status run_group_norm_forward(const cvc_step *step, void *const *p,
                                         const cvc_call *call) {
  return cvc_group_norm_forward(&step->of.group_norm, p[0], p[1], p[2], p[3],
                                call);
}

static cvc_status expect_group_norm_backward(const cvc_step *step,
                                             cvc_expected *e) {
  CVC_TRY(expect_group_norm(step, e));
  const cvc_expected whole = e[0], channels = e[1];
  e[1] = e[3] = whole;
  e[2] = e[4] = e[5] = channels;
  return CVC_OK;
}

static cvc_status run_group_norm_backward(const cvc_step *step, void *const *p,
                                          const cvc_call *call) {
  return cvc_group_norm_backward(&step->of.group_norm, p[0], p[1], p[2], p[3],
                                 p[4], p[5], call);
}

static cvc_status expect_interpolate(const cvc_step *step, cvc_expected *e) {
  const cvc_interpolate *i = &step->of.interpolate;
  CVC_TRY(cvc_interpolate_check(i));
  e[0] = (cvc_expected){i->dtype, i->n * i->c * cvc_volume(i->size)};
  e[1] = (cvc_expected){i->dtype, i->n * i->c * cvc_volume(i->out)};
  return CVC_OK;
}

static cvc_status run_interpolate_forward(const cvc_step *step, void *const *p,
                                          const cvc_call *call) {
  return cvc_interpolate_forward(&step->of.interpolate, p[0], p[1], call);
}

static cvc_status expect_interpolate_backward(const cvc_step *step,
                                              cvc_expected *e) {
  CVC_TRY(expect_interpolate(step, e));
  const cvc_expected x = e[0];
  e[0] = e[1];
  e[1] = x;
  return CVC_OK;
}

static cvc_status run_interpolate_backward(const cvc_step *step, void *const *p,
                                           const cvc_call *call) {
  return cvc_interpolate_backward(&step->of.interpolate, p[0], p[1], call);
}

static cvc_status expect_optimizer(const cvc_step *step, int64_t hyper,
                                   cvc_expected *e) {
  const cvc_operand *p = &step->operands[2];
  if (!cvc_is_real(p->dtype)) return CVC_UNSUPPORTED;
  e[0] = (cvc_expected){CVC_F64, hyper};
  for (int i = 1; i < 5; i++) e[i] = (cvc_expected){p->dtype, p->size};
  return CVC_OK;
}

/** A hyperparameter that counts; -1 when it is no such number. */
static int64_t whole(double value) {
  return value >= 0 && value < 0x1p53 ? (int64_t)value : -1;
}

static cvc_status expect_sgd(const cvc_step *step, cvc_expected *e) {
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

static cvc_status expect_adam(const cvc_step *step, cvc_expected *e) {
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

static cvc_status expect_rmsprop(const cvc_step *step, cvc_expected *e) {
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

const cvc_kind cvc_kinds[CVC_STEP_KINDS] = {
    [CVC_STEP_CONV_PACK] = {2, 0, expect_conv_pack, run_conv_pack},
    [CVC_STEP_CONV_FORWARD] = {5, CVC_OPTIONAL(2) | CVC_OPTIONAL(3),
                               expect_conv_forward, run_conv_forward,
                               scratch_conv_forward},
    [CVC_STEP_CONV_BACKWARD_DATA] = {3, 0, expect_conv_backward_data,
                                     run_conv_backward_data,
                                     scratch_conv_backward_data},
    [CVC_STEP_CONV_BACKWARD_WEIGHT] = {4, CVC_OPTIONAL(2) | CVC_OPTIONAL(3),
                                       expect_conv_backward_weight,
                                       run_conv_backward_weight,
                                       scratch_conv_backward_weight},
    [CVC_STEP_POOL_FORWARD] = {3, CVC_OPTIONAL(2), expect_pool_forward,
                               run_pool_forward, scratch_pool},
    [CVC_STEP_POOL_BACKWARD] = {3, CVC_OPTIONAL(1), expect_pool_backward,
                                run_pool_backward, scratch_pool},
    [CVC_STEP_ADAPTIVE_POOL_FORWARD] = {2, 0, expect_adaptive_pool_forward,
                                        run_adaptive_pool_forward,
                                        scratch_adaptive_pool},
    [CVC_STEP_ADAPTIVE_POOL_BACKWARD] = {2, 0, expect_adaptive_pool_backward,
                                         run_adaptive_pool_backward,
                                         scratch_adaptive_pool},
    [CVC_STEP_BATCH_NORM_FORWARD] =
        {9,
         CVC_OPTIONAL(1) | CVC_OPTIONAL(2) | CVC_OPTIONAL(3) | CVC_OPTIONAL(4) |
             CVC_OPTIONAL(5) | CVC_OPTIONAL(7) | CVC_OPTIONAL(8),
         expect_batch_norm_forward, run_batch_norm_forward, scratch_batch_norm},
    [CVC_STEP_BATCH_NORM_BACKWARD] = {11,
                                      CVC_OPTIONAL(2) | CVC_OPTIONAL(3) |
                                          CVC_OPTIONAL(4) | CVC_OPTIONAL(7) |
                                          CVC_OPTIONAL(8) | CVC_OPTIONAL(9) |
                                          CVC_OPTIONAL(10),
                                      expect_batch_norm_backward,
                                      run_batch_norm_backward,
                                      scratch_batch_norm},
    [CVC_STEP_RUNNING_STATISTICS] = {8, CVC_OPTIONAL(4) | CVC_OPTIONAL(7),
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
    [CVC_STEP_CROSS_ENTROPY_FORWARD] = {4, CVC_OPTIONAL(2),
                                        expect_cross_entropy,
                                        run_cross_entropy},
    [CVC_STEP_CROSS_ENTROPY_BACKWARD] = {5, CVC_OPTIONAL(3),
                                         expect_cross_entropy_backward,
                                         run_cross_entropy_backward},
    [CVC_STEP_FUNCTION_FORWARD] = {2, 0, expect_function, run_function_forward},
    [CVC_STEP_FUNCTION_BACKWARD] = {3, 0, expect_function,
                                    run_function_backward},
    [CVC_STEP_BINARY_FORWARD] = {3, 0, expect_binary, run_binary_forward},
    [CVC_STEP_SOFTMAX_FORWARD] = {2, 0, expect_softmax, run_softmax_forward},
    [CVC_STEP_SOFTMAX_BACKWARD] = {3, 0, expect_softmax, run_softmax_backward},
    [CVC_STEP_GROUP_NORM_FORWARD] = {4, CVC_OPTIONAL(1) | CVC_OPTIONAL(2),
                                     expect_group_norm, run_group_norm_forward},
    [CVC_STEP_GROUP_NORM_BACKWARD] = {6,
                                      CVC_OPTIONAL(2) | CVC_OPTIONAL(4) |
                                          CVC_OPTIONAL(5),
                                      expect_group_norm_backward,
                                      run_group_norm_backward},
    [CVC_STEP_INTERPOLATE_BACKWARD] = {2, 0, expect_interpolate_backward,
                                       run_interpolate_backward},
    [CVC_STEP_INTERPOLATE_FORWARD] = {2, 0, expect_interpolate,
                                      run_interpolate_forward},
    [CVC_STEP_SGD] = {4, CVC_OPTIONAL(3), expect_sgd, run_sgd, .updates = true},
    [CVC_STEP_ADAM] = {5, 0, expect_adam, run_adam, .updates = true},
    [CVC_STEP_RMSPROP] = {5, CVC_OPTIONAL(4), expect_rmsprop, run_rmsprop,
                          .updates = true},
};

double cvc_step_work(const cvc_step *step) {
  if (step->kind >= CVC_STEP_CONV_FORWARD &&
      step->kind <= CVC_STEP_CONV_BACKWARD_WEIGHT)
    return cvc_conv_work(&step->of.conv);
  int64_t most = 0;
  for (int i = 0; i < cvc_kinds[step->kind].operands; i++)
    most = cvc_max(most, step->operands[i].size);
  return CVC_ELEMENT_WORK * (double)most;
}

/* --------------------------------------------------------- a single step */

cvc_status cvc_step_operands(const cvc_step *step,
                             cvc_operand operands[CVC_MAX_OPERANDS],
                             int *count) {
  if (!step || !operands || !count || step->kind < 0 ||
      step->kind >= CVC_STEP_KINDS)
    return CVC_BAD_ARGUMENT;
  cvc_expected expected[CVC_MAX_OPERANDS] = {{0}};
  CVC_TRY(cvc_kinds[step->kind].expect(step, expected));
  *count = cvc_kinds[step->kind].operands;
  for (int i = 0; i < *count; i++)
    operands[i] =
        (cvc_operand){.dtype = expected[i].dtype, .size = expected[i].size};
  return CVC_OK;
}

cvc_status cvc_step_run(const cvc_step *step, void *const *arrays,
                        const cvc_call *call) {
  if (!step || !arrays || step->kind < 0 || step->kind >= CVC_STEP_KINDS)
    return CVC_BAD_ARGUMENT;
  return cvc_kinds[step->kind].run(step, arrays, call);
}
