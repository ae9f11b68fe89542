// Device memory in time: bandwidths that transfers share, and the caches before them.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <queue>
#include <utility>
#include <vector>

namespace memory {

constexpr double NEVER = std::numeric_limits<double>::infinity();

// A bandwidth that all transfers share evenly, none faster than its own port.
class Shared {
 public:
  void set(double rate, double port) {
    *this = Shared();
    this->rate = rate, this->port = port;
  }
  void begin(double now, double bytes, int64_t transfer) {
    advance(now);
    flows.push({done + bytes, transfer});
  }
  double next() const {
    return flows.empty() ? NEVER : last + (flows.top().first - done) / share();
  }
  int64_t end(double now) {  // the transfer that ends at next()
    advance(now);
    int64_t transfer = flows.top().second;
    done = std::max(done, flows.top().first);
    flows.pop();
    return transfer;
  }

 private:
  using Flow = std::pair<double, int64_t>;
  double share() const { return std::min(port, rate / double(flows.size())); }
  void advance(double now) {
    if (!flows.empty()) done += share() * (now - last);
    last = now;
  }
  double rate = 1, port = 1, done = 0, last = 0;  // done: bytes that every transfer has moved
  std::priority_queue<Flow, std::vector<Flow>, std::greater<Flow>> flows;
};

// Lines of which the least recently used gives way.
class Cache {
 public:
  void set(int64_t lines) {
    room = lines;
    held = 0, newest = oldest = -1;
    slots.clear();
  }
  void cover(int64_t lines) { slots.resize(lines); }  // that can ever be asked for
  bool touch(int64_t line) {                          // whether it was there
    Slot& slot = slots[line];
    bool there = slot.there;
    if (there) unlink(line);
    else if (!room) return false;
    else if (held == room) drop();
    else held++;
    link(line);
    return there;
  }

 private:
  struct Slot { int64_t newer = -1, older = -1; bool there = false; };
  void link(int64_t line) {
    slots[line] = {-1, newest, true};
    if (newest >= 0) slots[newest].newer = line;
    else oldest = line;
    newest = line;
  }
  void unlink(int64_t line) {
    Slot& slot = slots[line];
    (slot.newer >= 0 ? slots[slot.newer].older : newest) = slot.older;
    (slot.older >= 0 ? slots[slot.older].newer : oldest) = slot.newer;
  }
  void drop() {
    int64_t line = oldest;
    unlink(line);
    slots[line].there = false;
  }
  int64_t room = 0, held = 0, newest = -1, oldest = -1;
  std::vector<Slot> slots;
};

// The small cache of one core: four lines to a set.
class CoreCache {
 public:
  void set(int64_t lines) {
    sets = std::max<int64_t>(1, lines / WAYS);
    tags.assign(sets * WAYS, 0);
  }
  bool touch(uint64_t line) {
    uint64_t* way = &tags[line % sets * WAYS];
    uint64_t* found = std::find(way, way + WAYS, line + 1);
    bool there = found != way + WAYS;
    if (!there) found = way + WAYS - 1;
    std::rotate(way, found, found + 1);
    *way = line + 1;
    return there;
  }

 private:
  static constexpr int64_t WAYS = 4;
  int64_t sets = 1;
  std::vector<uint64_t> tags;
};

}  // namespace memory
