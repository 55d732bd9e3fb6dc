// What counts depend on besides our own code: the compiler, valgrind, the C library and what the processor can do, by which
// digests and copies choose their code.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'

/** The extensions that the code we run chooses by; others come and go with kernels and hypervisors. */
const FEATURES =
  /^(?:sse4_[12]|ssse3|avx\w*|pclmulqdq|vpclmulqdq|bmi[12]|erms|fsrm|sha_ni|asimd\w*|crc32|pmull|sha3|sve2?)$/

/** What this machine is, by name; without what can't be found out, as then nothing is counted by it. */
export function fingerprint() {
  return {
    cpu: cpus()[0]?.model.trim(),
    cpu_features: features(),
    libc: process.report.getReport().header.glibcVersionRuntime,
    rustc: version('rustc'),
    valgrind: version('valgrind'),
  }
}

/** The names of what differs, among what is known here. */
export function differences(accepted, here) {
  return Object.keys(here).filter((name) => here[name] !== undefined && here[name] !== accepted[name])
}

function features() {
  if (process.platform !== 'linux') return undefined
  const line = /^(?:flags|Features)\s*: (.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))
  return line?.[1]
    .split(' ')
    .filter((name) => FEATURES.test(name))
    .sort()
    .join(' ')
}

function version(program) {
  try {
    return execFileSync(program, ['--version'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  } catch {
    return undefined
  }
}
