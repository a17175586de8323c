// expect: carom: .* cannot travel.* serialize
// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>
#include <vector>

struct point {
  int x, y;
#ifdef FIXED
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& x& y;
  }
#endif
};

int sum(const point& p) { return p.x + p.y; }

std::vector<int> use(carom::pool& pool) { return pool.map(sum, std::vector<point>(3)); }
