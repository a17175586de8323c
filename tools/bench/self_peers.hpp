// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace bench {

/// `carom-bench --peer NAME WORKERS` is a peer written in C++: the same binary without carom in it.
inline constexpr const char* self_peer_option = "--peer";

/// Runs the peer that the command line asks for, if it asks for one, and gives the exit status.
std::optional<int> run_self_peer(int argc, char** argv);

/// What a peer can be asked for: a word, then numbers.
using peer_requests = std::map<std::string, std::function<double(const std::vector<double>&)>>;

/// Greets, then answers requests on standard input until it ends.
int serve(const peer_requests& requests);

int run_limits_peer(int workers);
int run_basp_peer();

}  // namespace bench
