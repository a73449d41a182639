/**
 * Edges of a disc with the library alone, no Python: two Sobel filters are one
 * convolution with k = 2 output channels.
 */
#include <convcore.h>
#include <math.h>
#include <stdio.h>

enum { SIZE = 24 };

static const float sobel[2][3][3] = {
    {{-1, 0, 1}, {-2, 0, 2}, {-1, 0, 1}},
    {{-1, -2, -1}, {0, 0, 0}, {1, 2, 1}},
};

int main(void) {
  static float image[SIZE][SIZE], gradient[2][SIZE][SIZE];
  for (int i = 0; i < SIZE; i++)
    for (int j = 0; j < SIZE; j++)
      image[i][j] = hypotf(i - SIZE / 2, j - SIZE / 2) < SIZE / 3;

  /* Three spatial axes: a plane has depth 1. */
  const cvc_conv conv = {
      .dtype = CVC_F32,
      .layout = CVC_CHANNELS_FIRST,
      .n = 1,
      .c = 1,
      .k = 2,
      .groups = 1,
      .size = {1, SIZE, SIZE},
      .kernel = {1, 3, 3},
      .stride = {1, 1, 1},
      .pad_before = {0, 1, 1},
      .pad_after = {0, 1, 1},
      .dilation = {1, 1, 1},
  };
  cvc_status status =
      cvc_conv_forward(&conv, image, sobel, NULL, NULL, gradient, NULL);
  if (status != CVC_OK) {
    fprintf(stderr, "convolution: %s\n", cvc_status_text(status));
    return 1;
  }

  printf("convcore %s, kernels for %s\n", CVC_VERSION, cvc_isa());
  for (int i = 0; i < SIZE; i++) {
    for (int j = 0; j < SIZE; j++)
      putchar(hypotf(gradient[0][i][j], gradient[1][i][j]) > 1 ? '#' : '.');
    putchar('\n');
  }
  return 0;
}
