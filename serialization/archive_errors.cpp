// SPDX-License-Identifier: BSL-1.0
#include <carom/detail/byte_stream.hpp>
#include <carom/detail/items.hpp>
#include <carom/errors.hpp>

#include <cxxabi.h>

#include <exception>
#include <new>
#include <string>

namespace carom::detail {

namespace {

constexpr const char* advice =
    "; the bytes are corrupt, or sender and receiver were built from different types";

}  // namespace

void throw_truncated(std::size_t needed, std::size_t left) {
  throw encoding_error("carom: a value ends too early: " + std::to_string(needed) +
                       " bytes are needed and " + std::to_string(left) + " are left" + advice);
}

void throw_too_many(std::uint64_t count, std::size_t left) {
  throw encoding_error("carom: a container claims " + std::to_string(count) + " elements and " +
                       std::to_string(left) + " bytes are left" + advice);
}

void throw_too_deep() {
  throw encoding_error(
      "carom: values stand more than " + std::to_string(max_depth) +
      " deep inside each other; flatten the structure, or keep its nodes in a vector");
}

void throw_corrupt(std::string_view what) {
  throw encoding_error("carom: " + std::string{what} + advice);
}

void throw_left_over(std::size_t left) {
  throw encoding_error("carom: " + std::to_string(left) + " bytes are left over behind the values" +
                       advice);
}

void throw_bookkeeping() {
  throw encoding_error(
      "carom: class and object ids do not travel; let serialize() use the archive's operators only");
}

void rethrow_as_encoding_error(const char* doing) {
  const auto text = [doing](const char* why) {
    return "carom: " + std::string{doing} + " failed: " + why;
  };
  try {
    throw;
  } catch (const abi::__forced_unwind&) {
    throw;
  } catch (const encoding_error&) {
    throw;
  } catch (const unknown_task&) {
    throw;  // a call that this process cannot make
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& cause) {
    std::throw_with_nested(encoding_error(text(cause.what())));
  } catch (...) {
    std::throw_with_nested(encoding_error(text("serialize() threw what is no std::exception")));
  }
}

}  // namespace carom::detail
