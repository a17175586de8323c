// expect: carom: .* cannot travel.* serialize
// SPDX-License-Identifier: BSL-1.0
#include <carom/pool.hpp>

struct point {
  int x, y;
#ifdef FIXED
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& x& y;
  }
#endif
};

int norm(const point& p) { return p.x * p.x + p.y * p.y; }

int use(carom::pool& pool) { return pool.apply(norm, point{3, 4}); }
