// expect: carom: a container travels without its comparator, hash and equality
// SPDX-License-Identifier: BSL-1.0
#include <carom/queue.hpp>
#include <unordered_set>

struct salted {
  std::size_t operator()(int key) const { return static_cast<std::size_t>(key) ^ 17; }
#ifndef FIXED
  std::size_t salt = 17;
#endif
};
using keys = std::unordered_set<int, salted>;

keys use(carom::queue<keys>& queue) { return queue.get(); }
