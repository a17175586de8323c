// expect: carom: a container travels without its comparator, hash and equality
// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>
#include <set>

#ifdef FIXED
struct by_last_digit {
  bool operator()(int a, int b) const { return a % 10 < b % 10; }
};
using digits = std::set<int, by_last_digit>;
#else
using digits = std::set<int, bool (*)(int, int)>;
#endif

digits same(const digits& some) { return some; }

digits use(carom::pool& pool, const digits& some) { return pool.apply(same, some); }
