// SPDX-License-Identifier: BSL-1.0
#include <caf/all.hpp>
#include <carom/actor.hpp>
#include <carom/errors.hpp>
#include <typeinfo>

namespace carom {
namespace {

actor_errc code_of(const std::exception& e) {
  if (dynamic_cast<const worker_lost*>(&e)) return actor_errc::worker_lost;
  if (dynamic_cast<const terminated*>(&e)) return actor_errc::terminated;
  if (dynamic_cast<const restart_freq_exceeded*>(&e)) return actor_errc::restart_freq_exceeded;
  if (dynamic_cast<const encoding_error*>(&e)) return actor_errc::encoding_error;
  if (dynamic_cast<const pool_closed*>(&e)) return actor_errc::pool_closed;
  if (dynamic_cast<const queue_full*>(&e)) return actor_errc::queue_full;
  if (dynamic_cast<const queue_empty*>(&e)) return actor_errc::queue_empty;
  if (dynamic_cast<const unknown_task*>(&e)) return actor_errc::unknown_task;
  return actor_errc::task;
}

caf::error make(actor_errc code, std::string text) {
  return caf::error(static_cast<std::uint8_t>(code), error_category(),
                    caf::make_message(std::move(text)));
}

}  // namespace

caf::atom_value error_category() noexcept { return caf::atom("carom"); }

caf::error make_actor_error(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return make(code_of(e), e.what());
  } catch (...) {
    return make(actor_errc::task, "the task threw something that is no std::exception");
  }
}

}  // namespace carom
