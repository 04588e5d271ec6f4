// The memory without an accelerator, to be stepped from outside.
#include "axi_memory.hpp"
using namespace hwsim;

extern "C" {
AxiMemory *memory_create(uint8_t *image, uint64_t bytes, uint64_t beat_bytes, const int64_t *timing, int64_t stress_seed) {
  AxiMemory *memory = new AxiMemory(image, bytes, beat_bytes);
  Flat &flat = memory->timing;
  flat.latency = timing[0]; flat.store = timing[1];
  flat.request_cycles = timing[2]; flat.return_cycles = timing[3]; flat.answer_cycles = timing[4];
  if (stress_seed >= 0) memory->stress.begin(stress_seed);
  return memory;
}
void memory_step(AxiMemory *memory, const Master *master, Slave *slave) {
  memory->step(*master);
  *slave = memory->drives;
}
int memory_idle(AxiMemory *memory) { return memory->idle(); }
const char *memory_error(AxiMemory *memory) { return memory->error.c_str(); }
void memory_destroy(AxiMemory *memory) { delete memory; }
}
