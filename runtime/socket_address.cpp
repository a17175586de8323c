// SPDX-License-Identifier: BSL-1.0
#include "runtime/socket_address.hpp"

#include <arpa/inet.h>
#include <netdb.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <ostream>
#include <stdexcept>
#include <string>

namespace carom {
namespace {

constexpr std::size_t longest_path = sizeof(sockaddr_un::sun_path) - 1;

[[noreturn]] void refuse(std::string_view text, const std::string& why) {
  throw std::invalid_argument("\"" + std::string(text) + "\" is no address: " + why);
}

}  // namespace

socket_address::socket_address(std::string_view text) {
  if (text.starts_with('\0') || text.starts_with('@'))
    throw std::invalid_argument(
        "abstract sockets are not used: they have no permissions, so that every user of the machine "
        "could connect; use a path");
  if (text.find('\0') != std::string_view::npos)
    throw std::invalid_argument("an address cannot contain a zero byte");
  if (text.find('/') != std::string_view::npos) {
    if (text.size() > longest_path)
      refuse(text, "the path of a Unix socket has at most " + std::to_string(longest_path) +
                       " bytes, and this one has " + std::to_string(text.size()) +
                       "; use a shorter directory, or a path relative to it");
    path_ = text;
    return;
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos)
    refuse(text, "write host:port, or a path with a slash (./name)");
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  else if (host.find(':') != std::string_view::npos)
    refuse(text, "write the host of IPv6 in brackets, [host]:port");
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), port_);
  if (port.empty() || error != std::errc() || end != port.data() + port.size())
    refuse(text, "the port must be a number from 0 to 65535");
  if (host.empty())
    refuse(text, "the host is missing (127.0.0.1 for this machine, 0.0.0.0 for all networks)");
  host_ = host;
}

socket_address::socket_address(std::string host, std::uint16_t port)
    : host_(std::move(host)), port_(port) {
  if (host_.empty() || host_.find('\0') != std::string::npos)
    throw std::invalid_argument("the host of an address is missing");
}

std::string socket_address::to_string() const {
  if (!path_.empty()) return path_;
  if (host_.empty()) return {};
  const bool six = host_.find(':') != std::string::npos;
  return (six ? "[" + host_ + "]" : host_) + ":" + std::to_string(port_);
}

std::ostream& operator<<(std::ostream& out, const socket_address& address) {
  return out << address.to_string();
}

namespace runtime {

kernel_address resolve(const socket_address& address) {
  kernel_address result;
  if (address.family() == address_family::local) {
    sockaddr_un named{};
    named.sun_family = AF_UNIX;
    if (address.path().size() > longest_path)
      refuse(address.path(), "the path of a Unix socket has at most 107 bytes");
    std::memcpy(named.sun_path, address.path().data(), address.path().size());
    std::memcpy(&result.storage, &named, sizeof named);
    result.size = sizeof named;
    return result;
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error =
      ::getaddrinfo(address.host().c_str(), std::to_string(address.port()).c_str(), &hints, &found);
  if (error != 0 || !found)
    throw process_error("the host " + address.host() + " is not found: " + ::gai_strerror(error));
  // What IPv4 has is what most listeners are bound to.
  const addrinfo* chosen = found;
  for (const addrinfo* each = found; each; each = each->ai_next)
    if (each->ai_family == AF_INET) {
      chosen = each;
      break;
    }
  std::memcpy(&result.storage, chosen->ai_addr, chosen->ai_addrlen);
  result.size = chosen->ai_addrlen;
  ::freeaddrinfo(found);
  return result;
}

socket_address readable_address(const kernel_address& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.family() == AF_INET) {
    sockaddr_in four;
    std::memcpy(&four, &address.storage, sizeof four);
    ::inet_ntop(AF_INET, &four.sin_addr, text, sizeof text);
    return {text, ntohs(four.sin_port)};
  }
  if (address.family() == AF_INET6) {
    sockaddr_in6 six;
    std::memcpy(&six, &address.storage, sizeof six);
    ::inet_ntop(AF_INET6, &six.sin6_addr, text, sizeof text);
    return {text, ntohs(six.sin6_port)};
  }
  return {};
}

}  // namespace runtime
}  // namespace carom
