/* Asks a SavedModel through TensorFlow's C++ loader, which is TensorFlow Serving's: no Python in the process.

   saved_model_caller DIR REQUEST OUTPUT... [-- LIBRARY...]

   REQUEST is a text file of inputs, each `name rows` and for each row `size` and as many bytes: all inputs are strings.
   OUTPUT is `operation:index`, a float or string tensor; its elements are printed, one a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tensorflow/c/c_api.h>

#define MOST 8

static void check(TF_Status *status, const char *what) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", what, TF_Message(status));
  exit(1);
}

static TF_Output find(TF_Graph *graph, const char *name, int index) {
  TF_Output output = {TF_GraphOperationByName(graph, name), index};
  if (output.oper == NULL) {
    fprintf(stderr, "no operation %s\n", name);
    exit(1);
  }
  return output;
}

static TF_Tensor *read_strings(FILE *file, int64_t rows) {
  TF_Tensor *tensor = TF_AllocateTensor(TF_STRING, &rows, 1, rows * sizeof(TF_TString));
  TF_TString *strings = TF_TensorData(tensor);
  for (int64_t row = 0; row < rows; row++) {
    size_t size;
    if (fscanf(file, "%zu", &size) != 1 || fgetc(file) != '\n') exit(2);
    char *bytes = malloc(size + 1);
    if (fread(bytes, 1, size, file) != size) exit(2);
    TF_StringInit(&strings[row]);
    TF_StringCopy(&strings[row], bytes, size);
    free(bytes);
  }
  return tensor;
}

static void print(TF_Tensor *tensor) {
  for (int64_t i = 0; i < TF_TensorElementCount(tensor); i++) {
    if (TF_TensorType(tensor) == TF_FLOAT) {
      printf("%.9g\n", ((float *)TF_TensorData(tensor))[i]);
    } else {
      TF_TString *string = (TF_TString *)TF_TensorData(tensor) + i;
      printf("%.*s\n", (int)TF_StringGetSize(string), TF_StringGetDataPointer(string));
    }
  }
}

int main(int count, char **arguments) {
  TF_Status *status = TF_NewStatus();
  int num_outputs = 0;
  while (3 + num_outputs < count && strcmp(arguments[3 + num_outputs], "--")) num_outputs++;
  for (int i = 4 + num_outputs; i < count; i++) {
    TF_LoadLibrary(arguments[i], status);
    check(status, arguments[i]);
  }
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  const char *tags[] = {"serve"};
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, arguments[1], tags, 1, graph, NULL, status);
  check(status, "load");

  TF_Output inputs[MOST], outputs[MOST];
  TF_Tensor *values[MOST], *results[MOST];
  int num_inputs = 0;
  char name[256];
  long rows;
  FILE *file = fopen(arguments[2], "rb");
  while (fscanf(file, "%255s %ld", name, &rows) == 2) {
    inputs[num_inputs] = find(graph, name, 0);
    values[num_inputs++] = read_strings(file, rows);
  }
  for (int i = 0; i < num_outputs; i++) {
    char *colon = strrchr(arguments[3 + i], ':');
    *colon = 0;
    outputs[i] = find(graph, arguments[3 + i], atoi(colon + 1));
  }
  TF_SessionRun(session, NULL, inputs, values, num_inputs, outputs, results, num_outputs, NULL, 0, NULL, status);
  check(status, "run");
  for (int i = 0; i < num_outputs; i++) print(results[i]);
  return 0;
}
