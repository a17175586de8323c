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

std::size_t count(const std::vector<point>& points) { return points.size(); }

std::size_t use(carom::pool& pool) { return pool.apply(count, std::vector<point>(3)); }
