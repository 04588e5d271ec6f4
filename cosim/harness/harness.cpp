// Runs layers on the CXXRTL model of an accelerator: memories, register accesses, and what each unit did in which cycle.
// HWSIM_BEAT_BYTES is the width of the memory port; HWSIM_WAVES adds a VCD writer (the model then has debug information).
#include "top.cc"
#ifdef HWSIM_WAVES
#include <cxxrtl/cxxrtl_vcd.h>
#endif
#include "axi_memory.hpp"

using namespace cxxrtl;
using namespace hwsim;
typedef cxxrtl_design::p_top Top;

namespace {
constexpr uint64_t PROGRAM_BYTES = 64;
constexpr int UNITS = 3, EVENTS = 3;

template <size_t B> const value<B> &look(const value<B> &v) { return v; }
template <size_t B> const value<B> &look(const wire<B> &w) { return w.curr; }
template <size_t B> uint64_t number(const value<B> &v) {
  uint64_t low = v.data[0];
  if (value<B>::chunks > 1) low |= (uint64_t)v.data[value<B>::chunks > 1 ? 1 : 0] << 32;
  return low;
}
template <class T> uint64_t see(const T &port) { return number(look(port)); }
template <size_t B> void give(value<B> &v, uint64_t n) {
  v.data[0] = (uint32_t)n & (B < 32 ? (1u << (B % 32)) - 1 : 0xffffffffu);
  if (value<B>::chunks > 1) v.data[value<B>::chunks > 1 ? 1 : 0] = (uint32_t)(n >> 32);
}
template <size_t B> void give(wire<B> &w, uint64_t n) { give(w.next, n); give(w.curr, n); }
template <size_t B> void give_bytes(value<B> &v, const uint8_t *bytes) { memcpy(v.data, bytes, (B + 7) / 8); }
template <size_t B> void give_bytes(wire<B> &w, const uint8_t *bytes) { give_bytes(w.next, bytes); give_bytes(w.curr, bytes); }
template <size_t B> void see_bytes(const value<B> &v, uint8_t *bytes) { memcpy(bytes, v.data, (B + 7) / 8); }

// A master of the registers: one access at a time, ready for every answer.
struct LiteMaster {
  bool aw = false, w = false, ar = false, busy = false, is_read = false;
  uint32_t address = 0, data = 0, answer = 0;
  uint64_t wait = 0;
  void begin_write(uint32_t a, uint32_t d) { busy = true; is_read = false; aw = w = true; address = a; data = d; }
  void begin_read(uint32_t a) { busy = true; is_read = true; ar = true; address = a; }
};

typedef int (*Step)(const Master *, Slave *);

struct Accelerator {
  Top top;
  bool fresh = true;
  // Nothing feeds back: one evaluation a cycle gives the outputs before the edge and what the registers become at it.
  const bool once = top.eval();
#ifdef HWSIM_WAVES
  debug_items items;
#endif
};
}  // namespace

// In the order of cosim.harness.model._Job.
struct Job {
  uint8_t *image;
  uint64_t image_bytes;
  const uint8_t *program;
  uint64_t program_bytes, program_latency;
  int64_t timing[5];
  int64_t stress_seed;  // -1: none
  uint64_t reset, limit_cycles;
  const uint32_t *setup;  // address, value; the last one starts
  uint64_t setups;
  uint32_t status_address, busy_mask, done_mask, error_mask;
  const uint32_t *reads;
  uint64_t read_count;
  uint32_t *read_values;
  uint64_t capacity;   // of each list of events
  int64_t *events;     // [unit][taken, start, finish][capacity], cycles from cycle 0 of the program
  Step step;           // or null: the memory is here
  const char *vcd_path;
  int64_t vcd_from, vcd_to;
  // results
  uint64_t counts[UNITS][EVENTS];
  int64_t first_cycle, running_cycles, host_cycles;
  uint64_t units_state[UNITS];
  uint32_t status;
  int32_t outcome;
  char message[256];
};
enum { DONE, LIMIT, PROTOCOL, OVERFLOWN };

namespace {
struct Runner {
  Accelerator &accelerator;
  Top &top;
  Job &job;
  AxiMemory memory;
  ProgramMemory program;
  LiteMaster lite;
  Stress stress;
  Master master;
  Slave outside;
  uint64_t setups_done = 0, reads_done = 0;
  bool started = false, ran = false, finished = false;
  int64_t cycle = 0;

  Runner(Accelerator &a, Job &job)
      : accelerator(a), top(a.top), job(job), memory(job.image, job.image_bytes, HWSIM_BEAT_BYTES),
        program(job.program, job.program_bytes, PROGRAM_BYTES, job.program_latency) {
    Flat &flat = memory.timing;
    flat.latency = job.timing[0]; flat.store = job.timing[1];
    flat.request_cycles = job.timing[2]; flat.return_cycles = job.timing[3]; flat.answer_cycles = job.timing[4];
    if (job.stress_seed >= 0) {
      memory.stress.begin(job.stress_seed * 3);
      program.stress.begin(job.stress_seed * 3 + 1);
      stress.begin(job.stress_seed * 3 + 2);
    }
    memset(&master, 0, sizeof master);
    outside = memory.drives;
  }

  const Slave &drives() const { return job.step ? outside : memory.drives; }

  void drive() {
    const Slave &s = drives();
    give(top.p_m__axi__mem__arready, s.arready);
    give(top.p_m__axi__mem__rvalid, s.r_valid);
    give(top.p_m__axi__mem__rlast, s.r_last);
    give_bytes(top.p_m__axi__mem__rdata, s.r_data);
    give(top.p_m__axi__mem__rresp, 0);
    give(top.p_m__axi__mem__awready, s.awready);
    give(top.p_m__axi__mem__wready, s.wready);
    give(top.p_m__axi__mem__bvalid, s.b_valid);
    give(top.p_m__axi__mem__bresp, 0);
    const Slave &p = program.drives;
    give(top.p_m__axi__prog__arready, p.arready);
    give(top.p_m__axi__prog__rvalid, p.r_valid);
    give(top.p_m__axi__prog__rlast, p.r_last);
    give_bytes(top.p_m__axi__prog__rdata, p.r_data);
    give(top.p_m__axi__prog__rresp, 0);
    give(top.p_s__axi__ctrl__awvalid, lite.aw);
    give(top.p_s__axi__ctrl__awaddr, lite.address);
    give(top.p_s__axi__ctrl__awprot, 0);
    give(top.p_s__axi__ctrl__wvalid, lite.w);
    give(top.p_s__axi__ctrl__wdata, lite.data);
    give(top.p_s__axi__ctrl__wstrb, 15);
    give(top.p_s__axi__ctrl__bready, 1);
    give(top.p_s__axi__ctrl__arvalid, lite.ar);
    give(top.p_s__axi__ctrl__araddr, lite.address);
    give(top.p_s__axi__ctrl__arprot, 0);
    give(top.p_s__axi__ctrl__rready, 1);
  }

  bool sample_memory() {
    master.ar_valid = see(top.p_m__axi__mem__arvalid);
    master.rready = see(top.p_m__axi__mem__rready);
    master.aw_valid = see(top.p_m__axi__mem__awvalid);
    master.w_valid = see(top.p_m__axi__mem__wvalid);
    master.bready = see(top.p_m__axi__mem__bready);
    bool legal = true;
    if (master.ar_valid) {
      master.ar = {see(top.p_m__axi__mem__araddr), see(top.p_m__axi__mem__arlen) + 1, see(top.p_m__axi__mem__aruser),
                   see(top.p_m__axi__mem__arcache) & 1};
      legal &= see(top.p_m__axi__mem__arburst) == 1 && (1u << see(top.p_m__axi__mem__arsize)) == HWSIM_BEAT_BYTES;
    }
    if (master.aw_valid) {
      master.aw = {see(top.p_m__axi__mem__awaddr), see(top.p_m__axi__mem__awlen) + 1, see(top.p_m__axi__mem__awuser),
                   see(top.p_m__axi__mem__awcache) & 1};
      legal &= see(top.p_m__axi__mem__awburst) == 1 && (1u << see(top.p_m__axi__mem__awsize)) == HWSIM_BEAT_BYTES;
    }
    if (master.w_valid) {
      see_bytes(look(top.p_m__axi__mem__wdata), master.w_data);
      see_bytes(look(top.p_m__axi__mem__wstrb), master.w_strobe);
      master.w_last = see(top.p_m__axi__mem__wlast);
    }
    return legal;
  }

  void record() {
    bool running = see(top.p_trace__running);
    if (running && job.first_cycle < 0) job.first_cycle = cycle;
    if (running) { job.running_cycles++; ran = true; }
    if (job.first_cycle < 0) return;
    uint64_t pulses[EVENTS] = {see(top.p_trace__taken), see(top.p_trace__start), see(top.p_trace__finish)};
    for (int u = 0; u < UNITS; u++)
      for (int e = 0; e < EVENTS; e++) {
        if (!(pulses[e] >> u & 1)) continue;
        uint64_t &count = job.counts[u][e];
        if (count >= job.capacity) { job.outcome = OVERFLOWN; return; }
        job.events[(u * EVENTS + e) * job.capacity + count++] = cycle - job.first_cycle;
      }
  }

  // What the register master does next; called behind the samples of a cycle.
  void access() {
    if (lite.aw && see(top.p_s__axi__ctrl__awready)) lite.aw = false;
    if (lite.w && see(top.p_s__axi__ctrl__wready)) lite.w = false;
    if (lite.ar && see(top.p_s__axi__ctrl__arready)) lite.ar = false;
    if (lite.busy && !lite.is_read && see(top.p_s__axi__ctrl__bvalid)) {
      lite.busy = false;
      setups_done++;
    }
    if (lite.busy && lite.is_read && see(top.p_s__axi__ctrl__rvalid)) {
      lite.busy = false;
      lite.answer = see(top.p_s__axi__ctrl__rdata);
      if (!finished) {
        job.status = lite.answer;
        finished = (ran && (lite.answer & job.done_mask) && !(lite.answer & job.busy_mask)) || (lite.answer & job.error_mask);
        lite.wait = 8;
      } else {
        job.read_values[reads_done++] = lite.answer;
      }
    }
    if (lite.busy || (stress.on && !stress.grants())) return;
    if (setups_done < job.setups) lite.begin_write(job.setup[2 * setups_done], job.setup[2 * setups_done + 1]);
    else if (!finished) { if (lite.wait) lite.wait--; else lite.begin_read(job.status_address); }
    else if (reads_done < job.read_count) lite.begin_read(job.reads[reads_done]);
  }

  // Inputs are driven: outputs before the edge.
  void settle() {
    give(top.p_clk, 0);
    if (!evaluates_once()) { top.step(); return; }
    top.prev_p_clk = top.p_clk;
    give(top.p_clk, 1);
    top.eval();
  }

  // The edge.
  void tick() {
    if (evaluates_once()) { top.commit(); return; }
    give(top.p_clk, 1);
    top.step();
  }

  bool evaluates_once() const {
#ifdef HWSIM_WAVES
    return false;  // waves show the clock low, then high
#else
    return accelerator.once;
#endif
  }

  void reset() {
    give(top.p_rst, 1);
    for (int i = 0; i < 3; i++) {
      drive();
      settle();
      tick();
    }
    give(top.p_rst, 0);
  }

  void run() {
    job.first_cycle = -1;
    job.running_cycles = 0;
    job.outcome = DONE;
    job.message[0] = 0;
    job.status = 0;
    memset(job.counts, 0, sizeof job.counts);
    if (job.reset || accelerator.fresh) reset();
    accelerator.fresh = false;
#ifdef HWSIM_WAVES
    vcd_writer vcd;
    FILE *file = job.vcd_path ? fopen(job.vcd_path, "w") : nullptr;
    if (file) { vcd.timescale(1, "ns"); vcd.add_without_memories(accelerator.items); }
#endif
    while (true) {
      drive();
      settle();
      bool legal = sample_memory();
      record();
#ifdef HWSIM_WAVES
      bool shows = file && job.first_cycle >= 0 && cycle - job.first_cycle >= job.vcd_from && cycle - job.first_cycle < job.vcd_to;
      if (shows) vcd.sample(10 * (cycle - job.first_cycle));
#endif
      bool program_valid = see(top.p_m__axi__prog__arvalid);
      Request ar = {see(top.p_m__axi__prog__araddr), see(top.p_m__axi__prog__arlen) + 1, 0, 1};
      program.step(program_valid ? &ar : nullptr, see(top.p_m__axi__prog__rready));
      if (job.first_cycle >= 0 || master.ar_valid || master.aw_valid || master.w_valid) {  // its cycle 0 is that of the program
        if (job.step) {
          if (job.step(&master, &outside)) job.outcome = PROTOCOL;
        } else {
          memory.step(master);
        }
      }
      access();
      tick();
#ifdef HWSIM_WAVES
      if (shows) {
        vcd.sample(10 * (cycle - job.first_cycle) + 5);
        fwrite(vcd.buffer.data(), 1, vcd.buffer.size(), file);
        vcd.buffer.clear();
      }
#endif
      cycle++;
      const std::string &error = memory.error.empty() ? program.error : memory.error;
      if (!legal || !error.empty()) {
        job.outcome = PROTOCOL;
        snprintf(job.message, sizeof job.message, "cycle %lld: %s", (long long)(cycle - 1 - (job.first_cycle < 0 ? 0 : job.first_cycle)),
                 legal ? error.c_str() : "a burst that is not INCR, or not of whole beats");
      }
      if (job.outcome != DONE) break;
      if (finished && reads_done == job.read_count) break;
      if (job.status & job.error_mask && finished) break;
      if ((uint64_t)cycle >= job.limit_cycles) { job.outcome = LIMIT; break; }
    }
    if (job.outcome == DONE && !job.step && !memory.idle()) {
      job.outcome = PROTOCOL;
      snprintf(job.message, sizeof job.message, "done while the memory still works");
    }
    job.host_cycles = cycle;
#ifdef HWSIM_WAVES
    if (file) fclose(file);
#endif
  }
};
}  // namespace

extern "C" {
void *accelerator_create() {
  Accelerator *a = new Accelerator();
#ifdef HWSIM_WAVES
  a->top.debug_info(&a->items, nullptr, "top ");
#endif
  return a;
}
void accelerator_destroy(void *a) { delete static_cast<Accelerator *>(a); }
void accelerator_run(void *a, Job *job) {
  Runner runner(*static_cast<Accelerator *>(a), *job);
  runner.run();
}
uint64_t accelerator_job_bytes() { return sizeof(Job); }
}
