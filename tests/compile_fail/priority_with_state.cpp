// expect: carom: a container travels without its comparator, hash and equality
// SPDX-License-Identifier: BSL-1.0
#include <carom/connection.hpp>
#include <functional>
#include <queue>
#include <vector>

#ifdef FIXED
using urgency = std::greater<int>;
#else
using urgency = std::function<bool(int, int)>;
#endif
using line = std::priority_queue<int, std::vector<int>, urgency>;

void use(carom::connection& to, const line& waiting) { to.send(waiting); }
