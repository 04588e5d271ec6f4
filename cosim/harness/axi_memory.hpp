// Memories behind AXI4, cycle by cycle: `AxiMemory` and `Flat` are cosim.memory_model's AxiMemory and FlatTiming, statement
// by statement (tests compare them in every cycle); random waits come from a generator of its own.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <string>

namespace hwsim {

constexpr int BEAT_BYTES = 128;
constexpr int PAGE_BYTES = 4096;
constexpr int MOST_BEATS = 256;

// What a master and a memory drive in one cycle. Plain records: Python reads and writes them through ctypes.
struct Request {
  uint64_t address, beats, user, posted;
  bool operator==(const Request &o) const {
    return address == o.address && beats == o.beats && user == o.user && posted == o.posted;
  }
};

struct Master {
  uint8_t ar_valid, rready, aw_valid, w_valid, w_last, bready, spare[2];
  Request ar, aw;
  uint8_t w_data[BEAT_BYTES], w_strobe[BEAT_BYTES / 8];
};

struct Slave {
  uint8_t arready, r_valid, r_last, awready, wready, b_valid, spare[2];
  uint8_t r_data[BEAT_BYTES];
};

// xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016.
struct Random {
  uint64_t state = 0;
  void seed(uint64_t value) { state = value * 0x9E3779B97F4A7C15ull + 0x2545F4914F6CDD1Dull; if (!state) state = 1; for (int i = 0; i < 8; i++) next(); }
  uint64_t next() {
    state ^= state >> 12; state ^= state << 25; state ^= state >> 27;
    return (state * 0x2545F4914F6CDD1Dull) >> 32;
  }
  uint64_t below(uint64_t n) { return next() % n; }
};

struct Stress {
  bool on = false;
  Random source;
  uint64_t most_waits = 0, early_beats = 0;
  bool waits_for_data = false;
  void begin(uint64_t seed) {
    static const uint64_t waits[] = {1, 3, 9}, early[] = {0, 1, 8};
    on = true;
    source.seed(seed);
    most_waits = waits[source.below(3)];
    early_beats = early[source.below(3)];
    waits_for_data = early_beats > 0 && source.below(2);
  }
  bool grants() { return !on || source.below(most_waits + 1) == 0; }
};

struct Flat {
  int64_t latency = 32, store = 5, request_cycles = 3, return_cycles = 2, answer_cycles = 1;
  int64_t free = 0, next_read = 0, next_write = 0, last_taken = -1;
  int64_t reserve(int64_t asks, int64_t beats) {
    int64_t slot = asks > free ? asks : free;
    free = slot + beats;
    return slot;
  }
  void request_read(int64_t cycle, const Request &r) {
    if (r.user) next_read = reserve(cycle - request_cycles + latency, r.user) - return_cycles;
  }
  void request_write(int64_t cycle, const Request &r) {
    if (r.user) next_write = reserve(cycle - request_cycles + store, r.user) - return_cycles - answer_cycles;
  }
  void take_data(int64_t cycle) { next_write++; last_taken = cycle; }
  bool gives_read(int64_t cycle) {
    bool given = cycle >= next_read;
    next_read += given;
    return given;
  }
  bool takes_write(int64_t cycle) const { return cycle >= next_write; }
  bool answers_write(int64_t cycle) const { return cycle >= last_taken + answer_cycles; }
};

struct AxiMemory {
  struct Beat { uint64_t address; bool last; };
  struct WriteBeat { uint8_t data[BEAT_BYTES], strobe[BEAT_BYTES / 8]; bool last; };

  uint8_t *image;
  uint64_t bytes, size;
  Flat timing;
  Stress stress;
  int64_t cycle = 0;
  Slave drives;
  std::deque<Beat> reads;
  std::deque<Request> writes;
  std::deque<WriteBeat> early;
  uint64_t answers = 0, place = 0;
  int64_t left_ar = 0, left_aw = 0;
  Master refused;
  std::string error;

  AxiMemory(uint8_t *image, uint64_t bytes, uint64_t beat_bytes) : image(image), bytes(bytes), size(beat_bytes) {
    memset(&drives, 0, sizeof drives);
    drives.arready = drives.awready = 1;
    memset(&refused, 0, sizeof refused);
  }

  void step(const Master &m) {
    const Slave old = drives;
    check_stable(m);
    if (m.ar_valid && old.arready) take_read(m.ar);
    if (m.aw_valid && old.awready) {
      check_request("aw", m.aw, left_aw);
      timing.request_write(cycle, m.aw);
      writes.push_back(m.aw);
    }
    if (m.w_valid && old.wready) {
      timing.take_data(cycle);
      WriteBeat beat;
      memcpy(beat.data, m.w_data, size);
      memcpy(beat.strobe, m.w_strobe, sizeof beat.strobe);
      beat.last = m.w_last;
      early.push_back(beat);
    }
    while (!early.empty() && !writes.empty() && error.empty()) {
      write_beat(early.front());
      early.pop_front();
    }
    bool keeps_read = old.r_valid && !m.rready, keeps_answer = old.b_valid && !m.bready;
    refused = m;
    if (old.arready) refused.ar_valid = 0;
    if (old.awready) refused.aw_valid = 0;
    if (old.wready) refused.w_valid = 0;
    cycle++;
    drives.arready = stress.grants();
    if (!keeps_read) show_read();
    drives.awready = stress.grants() && !waits(m);
    drives.wready = takes_data();
    drives.b_valid = keeps_answer || show_answer();
  }

  bool idle() const {
    return reads.empty() && writes.empty() && early.empty() && !answers && !drives.r_valid && !drives.b_valid && !left_ar && !left_aw;
  }

  bool waits(const Master &m) const { return stress.on && stress.waits_for_data && !m.w_valid && early.empty(); }

  bool takes_data() {
    if (!stress.on) return !writes.empty() && timing.takes_write(cycle);
    return stress.grants() && (!writes.empty() || early.size() < stress.early_beats);
  }

  void show_read() {
    drives.r_valid = 0;
    drives.r_last = 0;
    if (reads.empty() || !stress.grants() || !timing.gives_read(cycle)) return;
    drives.r_valid = 1;
    drives.r_last = reads.front().last;
    memcpy(drives.r_data, image + reads.front().address, size);
    reads.pop_front();
  }

  bool show_answer() {
    if (!answers || !stress.grants() || !timing.answers_write(cycle)) return false;
    answers--;
    return true;
  }

  void take_read(const Request &r) {
    if (!check_request("ar", r, left_ar)) return;
    timing.request_read(cycle, r);
    for (uint64_t i = 0; i < r.beats; i++) reads.push_back({r.address + i * size, i == r.beats - 1});
  }

  void write_beat(const WriteBeat &beat) {
    const Request &r = writes.front();
    uint64_t at = r.address + place * size;
    for (uint64_t i = 0; i < size; i++)
      if (beat.strobe[i / 8] >> (i % 8) & 1) image[at + i] = beat.data[i];
    place++;
    if (beat.last != (place == r.beats)) fail("wlast is %d on beat %lld of %lld", (int)beat.last, (long long)place, (long long)r.beats);
    if (beat.last || place >= r.beats) {
      writes.pop_front();
      answers++;
      place = 0;
    }
  }

  bool check_request(const char *name, const Request &r, int64_t &left) {
    unsigned long long address = r.address, beats = r.beats, end = r.address + r.beats * size;
    if (r.beats < 1 || r.beats > MOST_BEATS || r.address / PAGE_BYTES != (end - 1) / PAGE_BYTES)
      return fail("%s of %llu beats at byte %llu is too long or crosses 4096 bytes", name, beats, address);
    if (r.address % size) return fail("%s at byte %llu is no multiple of a beat, %llu bytes", name, address, (unsigned long long)size);
    if (end > bytes)
      return fail("%s of %llu beats at byte %llu lies outside a memory of %llu bytes", name, beats, address, (unsigned long long)bytes);
    if (!!r.user == !!left) return fail("%s at byte %llu: %lld beats are left of the transfer before it", name, address, (long long)left);
    left += (int64_t)r.user - (int64_t)r.beats;
    if (left < 0) return fail("%s at byte %llu goes beyond the beats announced for the transfer", name, address);
    return true;
  }

  void check_stable(const Master &m) {
    if (refused.ar_valid && !(m.ar_valid && m.ar == refused.ar)) fail("%s changed before it was taken", "ar");
    if (refused.aw_valid && !(m.aw_valid && m.aw == refused.aw)) fail("%s changed before it was taken", "aw");
    if (refused.w_valid && !(m.w_valid && m.w_last == refused.w_last && !memcmp(m.w_data, refused.w_data, size) &&
                             !memcmp(m.w_strobe, refused.w_strobe, (size + 7) / 8)))
      fail("%s changed before it was taken", "w");
  }

  template <typename... A> bool fail(const char *format, A... args) {
    if (error.empty()) {
      char text[256];
      snprintf(text, sizeof text, format, args...);
      error = text;
    }
    return false;
  }
};

// A read-only memory: the first beat `latency` cycles behind its address, then one a cycle.
struct ProgramMemory {
  const uint8_t *image;
  uint64_t bytes, size, latency;
  Stress stress;
  int64_t cycle = 0;
  struct Beat { uint64_t address; int64_t earliest; bool last; };
  std::deque<Beat> reads;
  Slave drives;
  std::string error;

  ProgramMemory(const uint8_t *image, uint64_t bytes, uint64_t beat_bytes, uint64_t latency)
      : image(image), bytes(bytes), size(beat_bytes), latency(latency) {
    memset(&drives, 0, sizeof drives);
    drives.arready = 1;
  }

  // `ar` is what the master drives; null where it drives none.
  void step(const Request *ar, bool rready) {
    if (ar && drives.arready) {
      uint64_t end = ar->address + ar->beats * size;
      if (ar->address % size || end > bytes || ar->beats > MOST_BEATS || ar->address / PAGE_BYTES != (end - 1) / PAGE_BYTES) {
        char text[160];
        snprintf(text, sizeof text, "program read of %llu beats at byte %llu: misaligned, too long or outside of %llu bytes",
                 (unsigned long long)ar->beats, (unsigned long long)ar->address, (unsigned long long)bytes);
        if (error.empty()) error = text;
      } else {
        for (uint64_t i = 0; i < ar->beats; i++)
          reads.push_back({ar->address + i * size, cycle + (int64_t)latency, i == ar->beats - 1});
      }
    }
    bool keeps = drives.r_valid && !rready;
    cycle++;
    drives.arready = stress.grants();
    if (keeps) return;
    drives.r_valid = !reads.empty() && stress.grants() && cycle >= reads.front().earliest;
    if (drives.r_valid) {
      memcpy(drives.r_data, image + reads.front().address, size);
      drives.r_last = reads.front().last;
      reads.pop_front();
    }
  }
};

}  // namespace hwsim
