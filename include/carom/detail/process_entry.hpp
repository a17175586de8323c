// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <carom/call.hpp>
#include <carom/detail/start_path.hpp>
#include <carom/detail/task_entry.hpp>

namespace carom::detail {

struct process_access;

/// Gives up the descriptors that came with the arguments: these have duplicates of their own.
CAROM_API void arguments_are_unpacked() noexcept;

/// A function that is a process's life: called as a task is, but nothing comes back.
template <class F, class... As>
struct process_task : bare_task<F, As...> {
  using values = typename bare_task<F, As...>::values;

  CAROM_START_PATH static void run(std::span<const std::byte> in, blob&) {
    bare_task<F, As...>::run(in, [](F& f, values& v) {
      arguments_are_unpacked();
      static_cast<void>(bare_task<F, As...>::invocation::call(f, v));
    });
  }

  static inline const task_type type{reinterpret_cast<code_pointer>(&run), typeid(F).name(), false};
};

template <class F, class... As>
packed_call pack_process_call(F&& f, As&&... args) {
  using function = std::decay_t<F>;
  static_assert(check_callable<function>::value);
  using task = process_task<function, As...>;
  const function& fn = f;
  blob packed;
  function_codec<function>::pack(packed, fn);
  pack_arguments<typename task::values>(packed, std::forward<As>(args)...);
  return call_access::make(task::type, naming_address(fn, task::type.entry), nullptr, packed);
}

}  // namespace carom::detail
