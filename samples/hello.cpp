// SPDX-License-Identifier: BSL-1.0
// Runs a function in other processes.
#include <carom/carom.hpp>
#include <iostream>
#include <vector>

int square(int x) { return x * x; }

int main(int argc, char** argv) {
  carom::init(argc, argv);  // first of all: workers are copies of the process as it is here
  carom::pool pool;         // one worker for each CPU

  const auto later = pool.apply_async(square, 7);  // returns at once
  std::cout << "7 squared is " << later.get() << '\n';

  for (int y : pool.map(square, std::vector{1, 2, 3, 4})) std::cout << y << ' ';
  std::cout << '\n';
}
