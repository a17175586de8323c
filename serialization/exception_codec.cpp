// SPDX-License-Identifier: BSL-1.0
#include <carom/detail/exception_codec.hpp>
#include <carom/detail/exception_registry.hpp>
#include <carom/errors.hpp>

#include "serialization/demangle.hpp"
#include "serialization/standard_exceptions.hpp"

#include <cxxabi.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ios>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Wire format: the number of exceptions, the outermost first, then of each: the name under which it
// is registered (empty when it is not), its demangled type, its text, the process, and, length
// first, what its type adds.

namespace carom::detail {

type_registry& exception_types() noexcept {
  static constinit type_registry registry;
  return registry;
}

namespace {

[[maybe_unused]] const bool standard_exceptions_added =
    (serialization::add_standard_exceptions(), true);

struct description {
  const std::type_info* type = nullptr;
  std::string what;
};

description describe(const std::exception_ptr& exception) {
  const auto caught = [](std::string what) {
    return description{abi::__cxa_current_exception_type(), std::move(what)};
  };
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& held) {
    return caught(held.what());
  } catch (const std::string& held) {
    return caught(held);
  } catch (const char* held) {
    return caught(held != nullptr ? held : "");
  } catch (...) {
    return caught("");
  }
}

std::exception_ptr cause_of(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::nested_exception& held) {
    return held.nested_ptr();
  } catch (...) {
    return nullptr;
  }
}

/// The name of the type that was thrown, without the wrapper that std::throw_with_nested puts on
/// it.
std::string type_name(const std::type_info& type) {
  constexpr std::string_view wrapper = "std::_Nested_exception<";
  std::string name = serialization::demangle(type.name());
  if (name.starts_with(wrapper) && name.ends_with('>'))
    name = name.substr(wrapper.size(), name.size() - wrapper.size() - 1);
  if (name.ends_with(" const")) name.resize(name.size() - std::strlen(" const"));
  return name;
}

/// The entry of exactly this type, if its name leads back to it.
const registered_type* find_exception(const std::type_info& type) {
  const registered_type* entry = exception_types().find(type);
  // libstdc++ throws a private class in place of the one that the standard names
  if (entry == nullptr && std::string_view{type.name()} == "St13__ios_failure")
    entry = exception_types().find(typeid(std::ios_base::failure));
  if (entry == nullptr || exception_types().find(std::string_view{entry->name}) == nullptr)
    return nullptr;
  return entry;
}

void write_head(byte_writer& writer, std::string_view name, std::string_view type,
                std::string_view what, int pid) {
  writer.put_text(name);
  writer.put_text(type);
  writer.put_text(what);
  writer.put_raw(static_cast<std::int32_t>(pid));
}

void write_as_remote(blob& out, std::string_view type, std::string_view what, int pid) {
  byte_writer writer{out};
  write_head(writer, {}, type, what, pid);
  writer.put_count(0);
}

void write_as_itself(blob& out, const registered_type& entry, std::string_view type,
                     const std::exception_ptr& exception, std::string_view what, int pid) {
  byte_writer writer{out};
  write_head(writer, entry.name, type, what, pid);
  const std::size_t length_at = writer.position();
  writer.put_count(0);
  static_cast<const exception_operations*>(entry.operations)->save(out, exception);
  const std::uint64_t length = writer.position() - length_at - sizeof length;
  std::memcpy(out.data() + length_at, &length, sizeof length);
}

void write_one(blob& out, const std::exception_ptr& exception, int pid) {
  const description found = describe(exception);
  const std::string type = found.type != nullptr ? type_name(*found.type) : "unknown";
  const std::size_t start = out.size();
  if (const auto* entry = found.type != nullptr ? find_exception(*found.type) : nullptr) {
    try {
      return write_as_itself(out, *entry, type, exception, found.what, pid);
    } catch (...) {
      out.resize_uninitialized(start);  // its type and text are better than nothing
    }
  }
  write_as_remote(out, type, found.what, pid);
}

struct received {
  std::string_view name;
  std::string type;
  std::string what;
  int pid;
  std::span<const std::byte> rest;
};

std::vector<received> read_chain(std::span<const std::byte> bytes) {
  byte_reader reader{bytes};
  const auto count = reader.get_raw<std::uint8_t>();
  if (count == 0) throw_corrupt("an exception is none");
  if (count > max_exception_chain) throw_corrupt("a chain of exceptions is too long");
  std::vector<received> chain;
  for (int i = 0; i < count; ++i) {
    received one;
    one.name = reader.get_text();
    one.type = reader.get_text();
    one.what = reader.get_text();
    one.pid = reader.get_raw<std::int32_t>();
    const std::size_t length = reader.get_count();
    one.rest = {reader.take(length), length};
    chain.push_back(std::move(one));
  }
  reader.expect_end();
  return chain;
}

void raise(const received& one, bool has_cause) {
  const auto* entry = one.name.empty() ? nullptr : exception_types().find(one.name);
  if (entry == nullptr) raise_exception(remote_error{{one.type, one.what, one.pid}}, has_cause);
  static_cast<const exception_operations*>(entry->operations)->raise(one.rest, one.what, has_cause);
}

std::exception_ptr revive(const received& one, const std::exception_ptr& cause) {
  try {
    if (cause == nullptr) {
      raise(one, false);
    } else {
      try {
        std::rethrow_exception(cause);
      } catch (...) {
        raise(one, true);
      }
    }
    throw_corrupt("an exception's type has not thrown it");
  } catch (...) {
    return std::current_exception();
  }
}

/// std::exception_ptr cannot hold it.
std::exception_ptr not_of_cxx(int pid) {
  return std::make_exception_ptr(
      remote_error({"unknown", "something that is no exception of C++", pid}));
}

}  // namespace

// UBSan takes the reference to a forced unwinding, which has no object, for one to null.
[[gnu::no_sanitize("null")]] std::exception_ptr caught_exception() noexcept {
  if (auto caught = std::current_exception()) return caught;
  const int before = std::uncaught_exceptions();
  try {
    throw;
  } catch (const abi::__forced_unwind&) {
    std::abort();
  } catch (...) {
    // Rethrowing counts it, catching it does not: it would count as uncaught for ever.
    struct globals {  // of the Itanium C++ ABI, 2.2.2
      void* caught;
      unsigned int uncaught;
    };
    auto* const counts = reinterpret_cast<globals*>(abi::__cxa_get_globals());
    while (std::uncaught_exceptions() > before) --counts->uncaught;
    return not_of_cxx(::getpid());
  }
}

void encode_exception(blob& out, const std::exception_ptr& exception, int pid) noexcept {
  const std::size_t start = out.size();
  try {
    std::vector<std::exception_ptr> chain;
    for (auto next = exception ? exception : not_of_cxx(pid);
         next != nullptr && chain.size() < max_exception_chain; next = cause_of(chain.back()))
      chain.push_back(next);
    byte_writer{out}.put_raw(static_cast<std::uint8_t>(chain.size()));
    for (const auto& one : chain) write_one(out, one, pid);
  } catch (...) {
    try {
      out.resize_uninitialized(start);
      byte_writer{out}.put_raw(std::uint8_t{1});
      write_as_remote(out, "unknown", "an error that could not be packed", pid);
    } catch (...) {
      out.resize_uninitialized(start);
    }
  }
}

std::exception_ptr decode_exception(std::span<const std::byte> bytes) noexcept {
  try {
    const std::vector<received> chain = read_chain(bytes);
    std::exception_ptr exception;
    for (auto one = chain.rbegin(); one != chain.rend(); ++one) exception = revive(*one, exception);
    return exception;
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace carom::detail
