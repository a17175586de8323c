// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/detail/async_access.hpp>
#include <carom/detail/callable.hpp>
#include <carom/detail/codec.hpp>
#include <carom/errors.hpp>
#include <carom/export.hpp>
#include <carom/file_descriptor.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

namespace carom {

namespace runtime {
struct connection_state;
}

namespace detail {

struct connection_access;

/// What tells a receiver that the message holds the type that it asks for; the same in every
/// process whose compiler mangles names alike.
CAROM_API std::uint64_t type_mark(const char* mangled_name) noexcept;
template <class T>
std::uint64_t type_mark_of() noexcept {
  static const std::uint64_t mark = type_mark(typeid(T).name());
  return mark;
}

/// A message as it has arrived.
struct arrived_message {
  std::vector<std::byte> bytes;
  descriptor_list descriptors;
};

}  // namespace detail

/// One end of a stream of whole messages between two processes or threads (billiard: Connection),
/// made by `pipe`, `listener::accept` or `client`.
///
/// A message is a value (`send`, `recv`) or raw bytes (`send_bytes`, `recv_bytes`). It arrives
/// whole or not at all, whenever the other process dies. When the other end is closed and
/// everything it sent has been received, receiving throws process_error ("the other end of the
/// connection is closed"); `at_end` tells the same without an exception. Sending to an end that is
/// closed throws process_error, never SIGPIPE. All waits go on after signals, and throw
/// soft_time_limit_exceeded inside a task whose soft limit passes; the connection stays usable
/// then.
///
/// A connection travels: as an argument or result of a task, in a message, in a container. The
/// receiver gets a descriptor of its own for the same end. The sender's copy stays open unless it
/// is moved from (`send(std::move(c))`, `pool.apply(f, std::move(c))`), and then is closed. Two
/// processes that receive at the same end would take each other's bytes, two that send would mix
/// them: let one of them receive and one send. In a forked copy the same holds; a destructor there
/// closes the copy only. A child of start_method::fork does not inherit connections, whose ends
/// would otherwise never be seen: there those of the parent throw process_error, and belong among
/// the arguments.
///
/// Thread safety: one thread may send while another receives (recv…, poll, at_end). Everything else
/// is not synchronized.
class CAROM_API connection {
 public:
  static constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();

  /// A closed one.
  connection() noexcept;
  /// Takes over a connected stream socket of the Unix or internet family, on whose other end is a
  /// connection too. Throws std::invalid_argument for anything else, and for neither direction.
  explicit connection(file_descriptor socket, bool readable = true, bool writable = true);
  connection(connection&& other) noexcept;
  connection& operator=(connection&& other) noexcept;
  ~connection();

  /// A second handle on the same end (see above for who may use which). Throws process_error in the
  /// middle of a message.
  connection duplicate() const;

  /// Sends a value; it is packed first. Descriptors of handles inside go with it, over Unix
  /// sockets: over others it is encoding_error. What is moved in is gone when `send` returns, so
  /// that a connection moved in is open at its receiver only. Throws encoding_error, nothing is
  /// sent then; process_error if either end is closed or this one is read-only. A non-blocking
  /// connection throws timeout_error if nothing of the message can be taken; of one that is taken
  /// in part, the rest goes with later sends or `flush`.
  template <class T>
  void send(T&& value) {
    using sent = detail::argument_value_t<T>;
    if constexpr (std::is_lvalue_reference_v<T> && std::is_same_v<std::remove_cvref_t<T>, sent>) {
      send_value<sent>(value);
    } else {
      const sent own(std::forward<T>(value));
      send_value<sent>(own);
    }
  }

  /// The next message, which must be a value of this very type: another one, or raw bytes, is
  /// encoding_error, and so is one that cannot be unpacked. Such a message is lost, the connection
  /// usable. Throws process_error at the end, if this end is write-only or closed, or the message
  /// is longer than `max_message` (it is skipped, the connection usable). A non-blocking connection
  /// throws timeout_error when no whole message is there; what has come of it is kept.
  template <class T>
  T recv() {
    return recv_value<T>(blocking() ? std::nullopt : std::optional(std::chrono::nanoseconds(0)));
  }
  /// The same, with timeout_error once `timeout` is over; what has come by then is kept.
  template <class T, class Rep, class Period>
  T recv(std::chrono::duration<Rep, Period> timeout) {
    return recv_value<T>(detail::to_nanoseconds(timeout));
  }

  /// Sends `size` bytes from `offset` on, or all from there, as a raw message, which may be empty.
  /// Throws std::out_of_range for bytes that are not there; else as `send`.
  void send_bytes(std::span<const std::byte> bytes, std::size_t offset = 0,
                  std::optional<std::size_t> size = std::nullopt);
  void send_bytes(std::string_view text, std::size_t offset = 0,
                  std::optional<std::size_t> size = std::nullopt);

  /// The bytes of the next message: a raw one's, or how a value was packed (its descriptors are
  /// closed). Longer than `maxlength`: process_error; the message is skipped and, unlike
  /// billiard's, the connection remains usable. Memory grows with what arrives, not with what the
  /// other side announces. Else as `recv`.
  std::vector<std::byte> recv_bytes(std::size_t maxlength = no_limit);
  template <class Rep, class Period>
  std::vector<std::byte> recv_bytes(std::size_t maxlength,
                                    std::chrono::duration<Rep, Period> timeout) {
    return recv_bytes_within(maxlength, detail::to_nanoseconds(timeout));
  }

  /// Puts the bytes of the next message into `buffer` from `offset` on; gives their number. A
  /// longer one throws buffer_too_short, which carries the message. Throws std::out_of_range for an
  /// offset behind the buffer. Else as `recv_bytes`.
  std::size_t recv_bytes_into(std::span<std::byte> buffer, std::size_t offset = 0);

  /// Whether there is something to receive, or becomes so within `timeout`: a message, its
  /// beginning, or the end. Throws process_error if this end is write-only or closed.
  bool poll() { return poll_for(std::chrono::nanoseconds(0)); }
  template <class Rep, class Period>
  bool poll(std::chrono::duration<Rep, Period> timeout) {
    return poll_for(detail::to_nanoseconds(timeout));
  }

  /// Whether the other end is closed and everything it sent has been received, so that receiving
  /// would throw. Never waits.
  bool at_end();

  /// Sends what can be sent without waiting of a raw message, of which `offset` bytes have been
  /// taken before (0 begins one): how many more have been taken, or nothing if it would have had to
  /// wait (billiard: send_offset). Until the message is whole, other sends throw process_error, and
  /// each call must come with the same bytes and the offset reached: std::invalid_argument.
  std::optional<std::size_t> send_offset(std::span<const std::byte> bytes, std::size_t offset);

  /// Sends what a non-blocking or interrupted send has left behind, waiting up to `timeout`.
  /// Whether nothing is left.
  bool flush() { return flush_for(std::chrono::nanoseconds(0)); }
  template <class Rep, class Period>
  bool flush(std::chrono::duration<Rep, Period> timeout) {
    return flush_for(detail::to_nanoseconds(timeout));
  }

  /// Whether receiving and sending wait. Of this handle: copies in other processes are not changed
  /// (billiard: setblocking).
  void setblocking(bool blocking);
  bool blocking() const noexcept;

  /// The longest message, in bytes, that is received; longer ones are skipped with process_error.
  std::size_t max_message() const noexcept;
  void set_max_message(std::size_t bytes);

  /// The descriptor, for event loops: readable when there is something to receive. Reading from it
  /// would tear messages. Throws process_error if closed.
  int fileno() const;
  /// What is still to be flushed is lost. Closing twice is nothing.
  void close() noexcept;
  bool closed() const noexcept;
  bool readable() const noexcept;
  bool writable() const noexcept;

 private:
  friend struct detail::handle_access;
  friend struct detail::connection_access;

  template <class T>
  void send_value(const T& value) {
    static_assert(detail::travels<T>());
    detail::blob packed;
    detail::encode(packed, value);
    send_packed(detail::type_mark_of<T>(), packed);
  }
  template <class T>
  T recv_value(std::optional<std::chrono::nanoseconds> timeout) {
    static_assert(!std::is_reference_v<T> && !std::is_const_v<T>,
                  "carom: receive a value, not a reference");
    static_assert(detail::travels<T>());
    const detail::arrived_message message =
        recv_packed(detail::type_mark_of<T>(), typeid(T).name(), timeout);
    const detail::descriptor_scope in_reach(&message.descriptors);
    return std::get<0>(detail::decode<T>(message.bytes));
  }

  explicit connection(std::unique_ptr<runtime::connection_state> state) noexcept;
  void send_packed(std::uint64_t type, const detail::blob& packed);
  detail::arrived_message recv_packed(std::uint64_t type, const char* type_name,
                                      std::optional<std::chrono::nanoseconds> timeout);
  std::vector<std::byte> recv_bytes_within(std::size_t maxlength,
                                           std::optional<std::chrono::nanoseconds> timeout);
  bool poll_for(std::optional<std::chrono::nanoseconds> timeout);
  bool flush_for(std::optional<std::chrono::nanoseconds> timeout);
  void pack(detail::byte_writer& out) const;
  static connection unpack(detail::byte_reader& in);

  std::unique_ptr<runtime::connection_state> state_;
};

template <>
struct detail::form<connection> : detail::handle_form<connection> {};

/// Two connected ends (billiard: Pipe), close-on-exec, with nothing in the file system. With
/// `duplex` both send and receive; else the first receives and the second sends. `read_nonblocking`
/// and `write_nonblocking` are about the first and the second end. Throws std::system_error when
/// there are no descriptors left.
CAROM_API std::pair<connection, connection> pipe(bool duplex = true, bool read_nonblocking = false,
                                                 bool write_nonblocking = false);

}  // namespace carom
