// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <stdlib.h>
#include <sys/wait.h>

#include <carom/errors.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "runtime/modules.hpp"
#include "tests/support/helper_program.hpp"

namespace carom::test {

/// A folder that is gone at the end.
class workshop {
 public:
  workshop() {
    char name[] = "/tmp/carom-test-XXXXXX";
    if (!::mkdtemp(name)) throw std::runtime_error("mkdtemp");
    path_ = name;
  }
  ~workshop() { std::filesystem::remove_all(path_); }
  std::string file(const char* name) const { return path_ / name; }

  /// A C program that does not know carom.
  std::string compile(const std::string& body) const {
    const std::string source = file("program.c");
    std::ofstream(source)
        << "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <stdlib.h>\n#include <sys/mman.h>\n"
           "#include <sys/stat.h>\n#include <sys/wait.h>\n#include <unistd.h>\n"
           "int main(void) {"
        << body << "}\n";
    const std::string command = "cc -o " + file("program") + " " + source;
    if (std::system(command.c_str()) != 0) throw std::runtime_error("no C compiler");
    return file("program");
  }

  /// This program with another build-id: nobody's functions are in it.
  std::string another_build() const {
    std::ifstream in("/proc/self/exe", std::ios::binary);
    std::string bytes((std::istreambuf_iterator<char>(in)), {});
    carom::runtime::scan_modules();
    const std::string hex = carom::runtime::module_at(0).build_id;
    std::string id;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
      id += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    const auto at = bytes.find(id);
    if (at == std::string::npos) throw std::runtime_error("no build-id");
    bytes[at] = static_cast<char>(bytes[at] ^ 1);
    std::ofstream(file("another"), std::ios::binary) << bytes;
    std::filesystem::permissions(file("another"), std::filesystem::perms::owner_all);
    return file("another");
  }

 private:
  std::filesystem::path path_;
};

/// `f` gives the sentence of a start_method_error.
template <class F>
std::string refusal(F f) {
  try {
    f();
    return "was not refused";
  } catch (const start_method_error& e) {
    return e.what();
  }
}

inline int result_of(const helper_program& program, const helper_program::arguments& given = {}) {
  running_helper helper(program, given);
  const auto status = helper.wait();
  return status && WIFEXITED(*status) ? WEXITSTATUS(*status) : -1;
}

}  // namespace carom::test
