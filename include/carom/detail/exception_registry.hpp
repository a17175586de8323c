// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace carom::detail {

template <class T>
struct exception_registrar {
  exception_registrar();
};

}  // namespace carom::detail
