// Repeats recorded calls of a candidate's functions, each on memory of its own, for
// ThreadSanitizer to watch: `replay_calls RECORD`. What the record holds is written in recording.py.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

namespace {

constexpr int INTEGERS = 32, DOUBLES = 8, UNREADABLE = 3, MISSING = 4;
FILE *record;

template <class T> void read(T *to, size_t count) {
  if (fread(to, sizeof(T), count, record) != count) _exit(UNREADABLE);
}

int64_t number() {
  int64_t value;
  read(&value, 1);
  return value;
}

std::string text() {
  std::string value(number(), ' ');
  read(&value[0], value.size());
  return value;
}

// Registers for integers and for floating-point numbers fill up separately, and more integers than
// there are registers lie on the stack in their order: one signature serves all functions.
template <size_t... I>
void invoke(void *function, const int64_t *i, const double *d, std::index_sequence<I...>) {
  using Function = void (*)(decltype(i[I] + 0)..., double, double, double, double, double, double,
                            double, double);
  reinterpret_cast<Function>(function)(i[I]..., d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]);
}

void call() {
  const std::string library = text(), name = text();
  std::vector<char *> memories(number());
  for (char *&memory : memories) {
    const int64_t size = number();
    memory = static_cast<char *>(aligned_alloc(64, (size + 64) / 64 * 64));
    read(memory, size);
  }
  int64_t integers[INTEGERS] = {};
  double doubles[DOUBLES] = {};
  int next_integer = 0, next_double = 0;
  for (int64_t left = number(); left > 0; --left) {
    const int64_t kind = number();
    if (kind == -2) {
      read(&doubles[next_double++], 1);
    } else {
      const int64_t value = number();
      integers[next_integer++] =
          kind < 0 ? value : reinterpret_cast<int64_t>(memories[kind] + value);
    }
  }
  void *opened = dlopen(library.c_str(), RTLD_NOW);
  void *function = opened ? dlsym(opened, name.c_str()) : nullptr;
  if (!function) {
    fprintf(stderr, "%s\n", dlerror());
    _exit(MISSING);
  }
  invoke(function, integers, doubles, std::make_index_sequence<INTEGERS>());
  for (char *memory : memories) free(memory);
}

} // namespace

int main(int, char **arguments) {
  record = fopen(arguments[1], "rb");
  if (!record) _exit(UNREADABLE);
  for (int64_t left = number(); left > 0; --left) call();
  _exit(0);
}
