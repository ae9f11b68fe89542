// What a kernel, the simulator and the Python side know of each other. Kernels use mtia.h.
#pragma once
#include <cstdint>

enum mtia_unit : int32_t {
  MTIA_READ, MTIA_WRITE, MTIA_DPE, MTIA_RE, MTIA_SE, MTIA_MLU, MTIA_CORE0, MTIA_CORE1, MTIA_UNITS
};

enum mtia_type : int32_t { MTIA_F32, MTIA_F16, MTIA_BF16, MTIA_I8, MTIA_I32, MTIA_I64 };

enum mtia_kind : int32_t {
  MTIA_MAP, MTIA_FOLD, MTIA_TRANSPOSE, MTIA_MULTIPLY, MTIA_IN, MTIA_OUT, MTIA_INDEXED, MTIA_GATHER,
  MTIA_SEND, MTIA_RECEIVE
};

enum mtia_spread : int32_t { MTIA_EACH, MTIA_ROW, MTIA_COLUMN, MTIA_SCALAR };  // of a second operand

struct mtia_operand {   // part of one block of a circular buffer
  int32_t buffer;
  int32_t filling;      // 1: seen by the producer, before push; 0: by the consumer, before pop
  int64_t sequence;     // which of all blocks that ever pass through the buffer
  int64_t offset;       // elements from the block's begin
  int64_t elements;
  mtia_type type;
};

struct mtia_command {
  mtia_unit unit;
  mtia_kind kind;
  int32_t op, inputs, has_output, group;  // group: 0 alone, 1 the PEs of a row, 2 those of a column
  mtia_spread spread;
  mtia_operand output, input[3];
  double scalar;
  int64_t rows, columns, depth;
  uint64_t origin, address;  // in device memory: of a tensor, and of what is moved
  int64_t stride, pitch;  // bytes from row to row in device memory; elements from row to row in the block
  int32_t side;           // of a neighbour: 0 left, 1 right, 2 up, 3 down
  int32_t line;
  const char* file;
};

struct mtia_machine {  // cycles and bytes a cycle; machines.toml says where each comes from
  double rows, columns, local_bytes, sram_bytes, local_rate, sram_rate, dram_rate, port_rate;
  double sram_latency, dram_latency, cache_line, core_cache, core_line;
  double matrix_bytes, matrix_latency, simd_elements, simd_latency, vector_bytes, vector_cores;
  double gather_cycles, gather_lanes, element_cycles, layout_rate, link_rate, issue_cycles, queue_commands;
  double transfers, launch_cycles;
  double aligned_reads, aligned_writes, int8;
};

struct mtia_region {     // a tensor that a kernel was given
  uint64_t base, bytes;
  int64_t argument, dram;  // dram: it lies there, and passes the cache; else it is kept in SRAM
};

struct mtia_event { double start, end; int32_t pe, unit, kind, line; };

struct mtia_launch {
  const mtia_machine* machine;
  int64_t count;             // of arguments
  const int64_t* integers;   // each argument as an integer or an address
  const double* reals;       // each argument as a number
  int64_t regions;
  const mtia_region* region;
  double cache_bytes;        // of SRAM, left over for caching DRAM
  double most_cycles;
  int64_t events;            // room for a timeline
  mtia_event* event;
  // What came of it:
  int64_t recorded;          // events
  double cycles;
  double busy[MTIA_UNITS], stalled[MTIA_UNITS];  // cycles, of all PEs together
  double read_bytes, written_bytes, dram_bytes, cache_hits, cache_misses, core_hits, core_misses;
  int64_t failure;           // 0 none, 1 an error, 2 a deadlock, 3 too much simulated time
  int64_t line;
  char file[256], message[1024];
};

extern "C" {
struct mtia_core_place { int32_t pe, number, row, column, rows, columns; };
typedef void (*mtia_entry)(const void* kernel, const mtia_launch* launch, void* core);
int mtia_run(mtia_launch* launch, mtia_entry entry, const void* kernel);
mtia_core_place mtia_place(void* core);
int32_t mtia_buffer(void* core, const char* name, mtia_type type, int64_t elements, int64_t blocks,
                    const char* file, int line);
int64_t mtia_front(void* core, int32_t buffer);
int64_t mtia_back(void* core, int32_t buffer);
void mtia_push(void* core, int32_t buffer, const char* file, int line);
void mtia_pop(void* core, int32_t buffer, const char* file, int line);
void mtia_issue(void* core, const mtia_command* command);
void mtia_wait(void* core, const mtia_operand* block, const char* file, int line);
void* mtia_element(void* core, const mtia_operand* block, int64_t index, int writes,
                   const char* file, int line);
const void* mtia_load(void* core, uint64_t origin, uint64_t address, int64_t bytes, const char* file,
                      int line);
void mtia_drain(void* core, const char* file, int line);
void mtia_barrier(void* core, const char* file, int line);
void mtia_work(void* core, double cycles, const char* file, int line);
}
