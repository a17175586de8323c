// SPDX-License-Identifier: BSL-1.0
#include "self_peers.hpp"

#include <cstdlib>
#include <exception>
#include <iostream>
#include <sstream>
#include <string_view>

#include "peers.hpp"

namespace bench {

std::optional<int> run_self_peer(int argc, char** argv) {
  if (argc != 4 || argv[1] != std::string_view(self_peer_option)) return std::nullopt;
  const std::string_view name = argv[2];
  if (name == name_of(peer_id::limits)) return run_limits_peer(std::atoi(argv[3]));
  if (name == name_of(peer_id::basp)) return run_basp_peer();
  std::cout << "error no peer of this name" << std::endl;
  return 2;
}

int serve(const peer_requests& requests) {
  std::cout << "ok" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::string word;
    in >> word;
    std::vector<double> numbers;
    for (double number; in >> number;) numbers.push_back(number);
    const auto request = requests.find(word);
    try {
      if (request == requests.end()) throw std::invalid_argument("no request of this name");
      const double value = request->second(numbers);
      std::cout.precision(12);
      std::cout << "ok " << value << std::endl;
    } catch (const std::exception& error) {
      std::cout << "error " << error.what() << std::endl;
    }
  }
  return 0;
}

}  // namespace bench
