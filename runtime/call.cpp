// SPDX-License-Identifier: BSL-1.0
#include <carom/call.hpp>
#include <ostream>

namespace carom {

std::string packed_call::name() const {
  if (!valid()) return {};
  return detail::code_name(function_ ? function_ : entry_, type_name_.c_str());
}

std::ostream& operator<<(std::ostream& out, const packed_call& call) {
  if (!call.valid()) return out << "call()";
  return out << call.name() << "(" << call.arguments_.size() << " bytes)";
}

}  // namespace carom
