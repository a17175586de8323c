// SPDX-License-Identifier: BSL-1.0
#include "peers.hpp"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <sstream>
#include <system_error>

#include "self_peers.hpp"

namespace bench {

namespace {

// Debian's own interpreter: another one in PATH does not see Debian's billiard.
constexpr const char* python = "/usr/bin/python3";
constexpr auto reply_timeout = std::chrono::seconds(60);
constexpr std::chrono::milliseconds leave_timeout{10'000};

std::filesystem::path own_binary() { return std::filesystem::read_symlink("/proc/self/exe"); }

std::string script(const std::string& name) {
  const std::filesystem::path places[] = {
#ifdef CAROM_BENCH_PEERS
      CAROM_BENCH_PEERS,
#endif
      std::filesystem::path(__FILE__).parent_path() / "peers",
      own_binary().parent_path() / "peers",
  };
  for (const auto& place : places)
    if (std::filesystem::exists(place / name)) return place / name;
  throw peer_missing(name + " is not found beside the sources nor beside the binary");
}

std::vector<std::string> command_of(peer_id id, int workers) {
  const std::string count = std::to_string(workers);
  if (id == peer_id::billiard || id == peer_id::multiprocessing)
    return {python, script("pool_peer.py"), name_of(id), count};
  return {own_binary(), self_peer_option, name_of(id), count};
}

}  // namespace

const char* name_of(peer_id peer) {
  switch (peer) {
    case peer_id::billiard: return "billiard";
    case peer_id::multiprocessing: return "multiprocessing";
    case peer_id::basp: return "BASP loopback";
    case peer_id::limits: return "limits";
  }
  return "";
}

peer::peer(const std::vector<std::string>& command) try : program_(start_program(command)) {
  receive();
} catch (const std::system_error& error) {
  throw peer_missing(std::string("cannot be started: ") + error.what());
}

peer::~peer() {
  program_.input.reset();
  program_.process.end(broken_ ? std::chrono::milliseconds(0) : leave_timeout);
}

std::vector<double> peer::ask(const std::string& request) {
  broken_ = true;
  const std::string line = request + "\n";
  if (::write(program_.input.get(), line.data(), line.size()) != ssize_t(line.size()))
    throw peer_missing("it is gone");
  return receive();
}

std::vector<double> peer::receive() {
  std::istringstream line(read_line());
  broken_ = false;
  std::string word;
  line >> word;
  if (word != "ok") {
    std::string text;
    std::getline(line >> std::ws, text);
    throw peer_missing(text.empty() ? "it gave no reply" : text);
  }
  std::vector<double> values;
  for (double value; line >> value;) values.push_back(value);
  return values;
}

std::string peer::read_line() {
  for (;;) {
    const auto end = unread_.find('\n');
    if (end != std::string::npos) {
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return line;
    }
    if (!wait_readable(program_.output.get(), reply_timeout))
      throw peer_missing("it did not reply in time");
    char bytes[4096];
    const ssize_t count = ::read(program_.output.get(), bytes, sizeof bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) throw peer_missing("it ended without a reply");
    unread_.append(bytes, static_cast<std::size_t>(count));
  }
}

peer& peer_set::get(peer_id id) {
  if (const auto known = missing_.find(id); known != missing_.end())
    throw peer_missing(known->second);
  auto& running = running_[id];
  if (running && !running->broken()) return *running;
  running.reset();
  try {
    running = std::make_unique<peer>(command_of(id, workers_));
  } catch (const peer_missing& reason) {
    missing_.emplace(id, reason.what());
    throw;
  }
  return *running;
}

}  // namespace bench
