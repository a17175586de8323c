// SPDX-License-Identifier: BSL-1.0
#include <carom/detail/exception_codec.hpp>
#include <carom/errors.hpp>
#include <carom/exception.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace fuzzed {

struct with_text : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct with_fields {
  int code = 0;
  std::string text;
  std::shared_ptr<std::string> shared;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& code& text& shared;
  }
};

}  // namespace fuzzed

CAROM_EXCEPTION(fuzzed::with_text);
CAROM_EXCEPTION(fuzzed::with_fields);

// Whatever the bytes are, an exception comes out of them or none, and it can travel on. Now and
// then the mutator starts anew from a real one.

namespace {

std::exception_ptr sample(unsigned pick) {
  using namespace carom;
  try {
    try {
      switch (pick % 12) {
        case 0: throw fuzzed::with_text("text");
        case 1: throw fuzzed::with_fields{1, "text", std::make_shared<std::string>("shared")};
        case 2: throw std::filesystem::filesystem_error("a", "b", "c", {2, std::system_category()});
        case 3: throw std::system_error({1, std::iostream_category()}, "text");
        case 4: throw std::future_error(std::future_errc::broken_promise);
        case 5:
          throw worker_lost({.pid = 1, .signal = 11, .task_name = "task", .backtrace = "main"});
        case 6: throw buffer_too_short({.message = std::vector<std::byte>(5), .capacity = 3});
        case 7: throw time_limit_exceeded({.task_name = "task", .pid = 2});
        case 8: throw restart_freq_exceeded({.restarts = 3, .cause = "exit(1)"});
        case 9: throw unknown_task({.task_name = "task", .reason = "why"});
        case 10: throw std::bad_alloc();
        default: throw 42;
      }
    } catch (...) {
      if (pick % 5 == 0) std::throw_with_nested(std::out_of_range("outer"));
      throw;
    }
  } catch (...) {
    return std::current_exception();
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  if (seed % 256 != 0) return LLVMFuzzerMutate(data, size, max_size);
  carom::detail::blob out;
  carom::detail::encode_exception(out, sample(seed / 256), 7);
  if (out.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::ranges::copy(out.bytes(), reinterpret_cast<std::byte*>(data));
  return out.size();
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace carom::detail;
  const std::exception_ptr first = decode_exception(std::as_bytes(std::span{data, size}));
  blob again;
  encode_exception(again, first, 1);
  const std::exception_ptr second = decode_exception(again.bytes());
  if ((first == nullptr) != (second == nullptr)) std::abort();
  return 0;
}
