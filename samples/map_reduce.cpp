// SPDX-License-Identifier: BSL-1.0
// map_reduce [FILE|DIR]...: counts the words of text files on all CPUs and prints the most
// frequent.
//
// The map step runs in workers, one file at a time; the reduce step runs here, as counts come in.
#include <algorithm>
#include <carom/carom.hpp>
#include <cctype>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace fs = std::filesystem;

using word_counts = std::unordered_map<std::string, std::uint64_t>;

/// The map step. Paths and counts travel between the processes as they are: standard containers
/// need no further code.
word_counts count_words(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  word_counts counts;
  std::string word;
  for (char c; file.get(c);) {
    if (c == '\0') return {};  // not text
    if (std::isalpha(static_cast<unsigned char>(c))) {
      word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!word.empty()) {
      ++counts[word];
      word.clear();
    }
  }
  if (!word.empty()) ++counts[word];
  return counts;
}

std::vector<std::string> files_below(const std::vector<std::string>& roots) {
  std::vector<std::string> files;
  for (const std::string& root : roots) {
    if (!fs::is_directory(root)) {
      files.push_back(root);
      continue;
    }
    const auto options = fs::directory_options::skip_permission_denied;
    for (const auto& entry : fs::recursive_directory_iterator(root, options))
      if (entry.is_regular_file() && !entry.is_symlink()) files.push_back(entry.path().string());
  }
  return files;
}

int main(int argc, char** argv) {
  carom::init(argc, argv);
  std::vector<std::string> roots(argv + 1, argv + argc);
  if (roots.empty())
    roots = {fs::exists("/usr/share/common-licenses") ? "/usr/share/common-licenses"
                                                      : "/usr/share/doc"};
  const std::vector<std::string> files = files_below(roots);

  carom::pool pool;
  word_counts total;
  std::size_t unreadable = 0;
  // Counts are merged in the order in which files are done; 8 files travel at a time. An item that
  // failed throws when it is taken, and the next one can still be had.
  auto counts = pool.imap_unordered(count_words, files, 8);
  for (bool more = true; more;) {
    try {
      const auto of_one_file = counts.next();
      more = of_one_file.has_value();
      if (more)
        for (const auto& [word, count] : *of_one_file) total[word] += count;
    } catch (const std::exception& e) {
      std::cerr << e.what() << '\n';
      ++unreadable;
    }
  }

  std::vector<std::pair<std::string, std::uint64_t>> ranking(total.begin(), total.end());
  std::ranges::sort(ranking, [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  std::uint64_t words = 0;
  for (const auto& entry : ranking) words += entry.second;
  for (const auto& [word, count] : ranking | std::views::take(20))
    std::cout << std::setw(9) << count << "  " << word << '\n';
  std::cout << words << " words, " << ranking.size() << " different, in "
            << files.size() - unreadable << " files, counted by " << pool.processes()
            << " workers\n";
  return unreadable ? 1 : 0;
}
