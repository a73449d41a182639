/** Status texts, instruction sets, threads. With --isas: names them. */
#include "check.h"

static int print_isas(void) {
  for (int i = 0; cvc_isa_available(i); i++)
    printf("%s\n", cvc_isa_available(i));
  return 0;
}

static void test_status(void) {
  for (int status = CVC_OK; status <= CVC_INTERRUPTED; status++) {
    const char *text = cvc_status_text((cvc_status)status);
    CHECK(text && *text && text[strlen(text) - 1] != '.');
    CHECK(strcmp(text, cvc_status_text((cvc_status)-1)) != 0);
  }
  CHECK(cvc_status_text((cvc_status)1000) != NULL);
}

static void test_isa(void) {
  CHECK_OK(cvc_initialize());
  const char *forced = getenv("CONVCORE_ISA");
  CHECK(strcmp(cvc_isa(), forced ? forced : cvc_isa_available(0)) == 0);
  bool found = false;
  for (int i = 0; cvc_isa_available(i); i++)
    found |= strcmp(cvc_isa_available(i), cvc_isa()) == 0;
  CHECK(found);
  CHECK(cvc_isa_available(-1) == NULL);
  CHECK(cvc_isa_available(100) == NULL);
  /* The answer never changes afterwards. */
  setenv("CONVCORE_ISA", "no such", 1);
  CHECK_OK(cvc_initialize());
}

/** In a process of its own, since the choice is made once. */
static void test_unknown_isa(const char *program) {
  char command[1000];
  snprintf(command, sizeof command, "CONVCORE_ISA=unknown '%s' --unknown",
           program);
  CHECK(system(command) == 0);
}

static int run_unknown(void) {
  float x[4] = {-1, 1, -1, 1}, y[4];
  CHECK_STATUS(cvc_initialize(), CVC_BAD_ISA);
  CHECK(cvc_isa() == NULL);
  CHECK_STATUS(cvc_relu_forward(CVC_F32, 4, x, y, NULL), CVC_BAD_ISA);
  return checks_failed > 0;
}

static void test_threads(void) {
  const int before = cvc_get_num_threads();
  CHECK(before >= 1);
  CHECK_STATUS(cvc_set_num_threads(0), CVC_BAD_ARGUMENT);
  CHECK_STATUS(cvc_set_num_threads(-1), CVC_BAD_ARGUMENT);
  CHECK(cvc_get_num_threads() == before);
  CHECK_OK(cvc_set_num_threads(3));
  CHECK(cvc_get_num_threads() == 3);
  CHECK_OK(cvc_set_num_threads(before));
  CHECK(cvc_has_openmp() == 0 || cvc_has_openmp() == 1);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--isas") == 0) return print_isas();
  if (argc > 1 && strcmp(argv[1], "--unknown") == 0) return run_unknown();
  test_unknown_isa(argv[0]);
  test_status();
  test_threads();
  test_isa();
  return report("machine");
}
