// What the emulator, a kernel compiled for it and the Python side know of each other.
#pragma once
#include <cstddef>
#include <cstdint>

struct simt_index { unsigned x, y, z; };

struct simt_region {
  uint64_t base, bytes;
  int64_t argument;  // which of the kernel's arguments lies there
};

struct simt_launch {
  uint32_t grid[3], block[3];
  uint64_t dynamic_shared;   // bytes
  uint64_t shared_limit;     // bytes that a block may have on the emulated device
  int64_t count;             // of arguments
  const int64_t* integers;   // each argument as an integer or an address
  const double* reals;       // each argument as a number
  int64_t regions;
  const simt_region* region;
  // The first error, if any:
  uint64_t pc;               // where in the kernel's library, as an offset; 0 where unknown
  uint64_t other_pc;         // of the access that it clashes with, if any
  char message[512];
};

struct simt_image { char *begin, *shared, *end; };  // the kernel's library, and its shared memory

extern "C" {
typedef void (*simt_invoke)(const void* kernel, const simt_launch* launch);
int simt_run(simt_launch* launch, simt_invoke invoke, const void* kernel, int64_t count,
             const simt_image* image);
int simt_barrier(int kind, int told);  // 0 plain, 1 or, 2 and, 3 count
uint64_t simt_warp(uint64_t mask, int kind, uint64_t value, int source);  // 0 sync, 1 shuffle, 2 ballot
// The same of those lanes that come to the same line, once none of their warp goes on.
uint64_t simt_here(int line, int kind, uint64_t value, int source);
uint64_t simt_active();
void simt_touch(const void* at, size_t bytes);  // an atomic access
extern char simt_dynamic_memory[];  // a block's dynamic shared memory
void simt_fail_assert(const char* told);
}
