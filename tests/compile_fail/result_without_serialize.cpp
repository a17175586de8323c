// expect: carom: .*result.* cannot travel.* serialize
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

point diagonal(int x) { return {x, x}; }

int use(carom::pool& pool) { return pool.apply(diagonal, 5).x; }
