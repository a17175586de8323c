// SPDX-License-Identifier: BSL-1.0
#include <carom/listener.hpp>

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <system_error>

#include "runtime/connection_state.hpp"
#include "runtime/listener_state.hpp"
#include "runtime/socket_address.hpp"

// The public face of listeners, and how they come to their address. Clients: listener_clients.cpp.
namespace carom {
namespace runtime {
namespace {

[[noreturn]] void throw_bind_error(int error, const socket_address& address) {
  std::string text = "cannot listen at " + address.to_string();
  if (error == EADDRINUSE && address.family() == address_family::local)
    text += " (somebody listens there, or one who was killed has left the file: remove it then)";
  else if (error == EADDRINUSE)
    text += " (somebody listens there: choose another port, or 0 for a free one)";
  throw std::system_error(error, std::system_category(), text);
}

}  // namespace

std::string socket_path::make_directory() {
  const char* base = std::getenv("TMPDIR");
  std::string name = std::string(base && *base ? base : "/tmp") + "/carom-XXXXXX";
  if (!::mkdtemp(name.data()))  // mode 0700
    throw std::system_error(errno, std::system_category(), "making a directory like " + name);
  owner_ = ::getpid();
  directory_ = name;
  return directory_ + "/socket";
}

void socket_path::bound(const std::string& path) {
  struct stat status {};
  owner_ = ::getpid();
  // Whoever removes it may be in another directory by then.
  std::error_code unknown;
  path_ = std::filesystem::absolute(path, unknown).string();
  if (unknown) path_ = path;
  if (::stat(path.c_str(), &status) == 0) {
    device_ = status.st_dev;
    inode_ = status.st_ino;
  }
}

void socket_path::remove() noexcept {
  if (owner_ != ::getpid()) return;
  // Who was told to remove the file and listen there now keeps it.
  struct stat status {};
  if (!path_.empty() && ::stat(path_.c_str(), &status) == 0 && status.st_dev == device_ &&
      status.st_ino == inode_)
    ::unlink(path_.c_str());
  if (!directory_.empty()) ::rmdir(directory_.c_str());
  owner_ = 0;
}

listener_state::listener_state(listener_options options)
    : options_(std::move(options)), owner_(::getpid()) {
  if (options_.backlog < 1) throw std::invalid_argument("a listener's backlog must be at least 1");
  if (options_.max_handshakes < 1)
    throw std::invalid_argument("a listener's max_handshakes must be at least 1");
  if (options_.handshake_timeout <= std::chrono::nanoseconds(0))
    throw std::invalid_argument("a listener's handshake_timeout must be more than 0");

  socket_address wanted = options_.address;
  if (!wanted && options_.family == address_family::internet) wanted = {"127.0.0.1", 0};
  if ((!wanted ? options_.family : wanted.family()) == address_family::internet &&
      !needs_handshakes() && !options_.insecure_no_key)
    throw std::invalid_argument(
        "a TCP listener without an authkey accepts everybody who reaches its port: give it one, or "
        "say .insecure_no_key = true");
  if (!wanted) wanted = socket_address(path_.make_directory());
  bind_to(wanted);
}

void listener_state::bind_to(const socket_address& wanted) {
  kernel_address name = resolve(wanted);
  unique_fd made(::socket(name.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made) throw std::system_error(errno, std::system_category(), "making a socket");
  socket_ = handle_fd(above_stdio(std::move(made)));

  const int on = 1;
  if (name.family() == AF_UNIX)
    ::fchmod(socket_.get(), 0600);  // the mode of the file that bind makes
  else
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(socket_.get(), name.get(), name.size) != 0) throw_bind_error(errno, wanted);
  if (name.family() == AF_UNIX) path_.bound(wanted.path());
  if (::listen(socket_.get(), options_.backlog) != 0) throw_bind_error(errno, wanted);

  if (name.family() == AF_UNIX) {
    address_ = wanted;
  } else {
    kernel_address chosen;
    chosen.size = sizeof chosen.storage;
    if (::getsockname(socket_.get(), chosen.get(), &chosen.size) != 0)
      throw std::system_error(errno, std::system_category(), "getsockname");
    address_ = readable_address(chosen);
  }
}

}  // namespace runtime

listener::listener(listener_options options)
    : state_(std::make_unique<runtime::listener_state>(std::move(options))) {}
listener::listener(const socket_address& address, carom::authkey authkey)
    : listener(listener_options{.address = address, .authkey = std::move(authkey)}) {}
listener::listener(listener&&) noexcept = default;
listener& listener::operator=(listener&&) noexcept = default;
listener::~listener() = default;

runtime::listener_state& listener::open_state() const {
  if (!state_) throw process_error("this listener is closed");
  return *state_;
}

connection listener::accept_within(std::optional<std::chrono::nanoseconds> timeout) {
  return open_state().accept(timeout);
}

const socket_address& listener::address() const { return open_state().address(); }
const socket_address& listener::last_accepted() const { return open_state().last_accepted(); }
std::uint64_t listener::refused() const { return open_state().refused(); }
int listener::fileno() const { return open_state().fd(); }
void listener::close() noexcept { state_.reset(); }
bool listener::closed() const noexcept { return !state_; }

}  // namespace carom
