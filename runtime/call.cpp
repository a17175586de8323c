// SPDX-License-Identifier: BSL-1.0
#include <carom/call.hpp>
#include <carom/detail/codec.hpp>
#include <carom/errors.hpp>
#include <optional>
#include <ostream>
#include <span>

namespace carom {

namespace {

/// The address with which arguments begin.
std::string ref_as_bytes(detail::code_ref ref) {
  detail::blob packed;
  detail::encode(packed, ref.module, ref.offset);
  return {reinterpret_cast<const char*>(packed.data()), packed.size()};
}

}  // namespace

std::string packed_call::name() const {
  if (!valid()) return {};
  return detail::code_name(function_ ? function_ : entry_, type_name_.c_str());
}

void packed_call::find_function(const std::string& name, const detail::told_code& entry,
                                const detail::told_code& function) {
  std::optional<detail::named_code> known;
  if (!name.empty()) known = detail::find_named_code(name, type_name_);
  try {
    entry_ = detail::find_code(entry);
    function_ = known ? known->function : detail::find_code(function);
  } catch (const unknown_task& e) {
    if (!known) throw unknown_task({.task_name = name, .reason = e.info().reason});
    entry_ = known->entry;
    function_ = known->function;
  }
  if (holds_pointer()) arguments_.insert(0, ref_as_bytes(detail::to_code_ref(function_)));
}

void detail::call_access::run(const packed_call& call, blob& result) {
  const auto entry = reinterpret_cast<task_entry>(call.entry_);
  if (!call.holds_pointer()) return entry(arguments(call), result);
  std::string here = ref_as_bytes(own_ref(to_code_ref(call.function_)));
  here.append(call.arguments_, code_ref_size);
  entry(std::as_bytes(std::span(here)), result);
}

std::ostream& operator<<(std::ostream& out, const packed_call& call) {
  if (!call.valid()) return out << "call()";
  return out << call.name() << "(" << call.arguments_.size() << " bytes)";
}

}  // namespace carom
