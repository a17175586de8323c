// SPDX-License-Identifier: BSL-1.0
#include <carom/carom.hpp>
#include <iostream>

static int square(int x) { return x * x; }

int main(int argc, char** argv) {
  carom::init(argc, argv);
  carom::pool pool{{.processes = 2}};
  std::cout << pool.apply(square, 7) << '\n';
}
