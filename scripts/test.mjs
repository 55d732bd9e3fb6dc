// `npm test`: installs, builds, runs every check, and ends with the line "N passed, N failed".
import { spawn, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { install, installCounters, whyNoUring } from './setup.mjs'

const steps = [
  { command: 'npm run --silent build' },
  { command: 'cargo fmt --all --check' },
  { command: 'cargo fmt --manifest-path fuzz/Cargo.toml --check' },
  { command: 'cargo clippy --locked --workspace --all-targets -- -D warnings' },
  {
    command: 'cargo test --locked --workspace --no-fail-fast',
    env: { XFERD_BACKEND: 'mio' },
    count: countCargo,
  },
  {
    name: 'servers and clients on io_uring',
    command: 'cargo test --locked --no-fail-fast -p xferd-server -p xferd-client --test "*"',
    env: { XFERD_BACKEND: 'uring' },
    count: countCargo,
    skip: whyNoUring,
  },
  {
    name: 'the portable side of xferd-os and xferd-store, on this system',
    command: 'cargo test --locked -p xferd-os -p xferd-store --target-dir target/portable',
    env: { RUSTFLAGS: '--cfg xferd_portable' },
    count: countCargo,
  },
  { name: 'every input that fuzzing has kept', command: 'npm run --silent fuzz:replay', count: countCargo },
  {
    name: 'the promises, in a simulated world',
    command: 'cargo test --locked -p xferd-simulator --profile simulator --target-dir target/sim',
    env: { RUSTFLAGS: '--cfg xferd_sim' },
    count: countCargo,
  },
  {
    name: 'the simulated world itself, by clippy',
    command: 'cargo clippy --locked -p xferd-simulator --all-targets --target-dir target/sim -- -D warnings',
    env: { RUSTFLAGS: '--cfg xferd_sim' },
  },
  {
    name: 'the Apple side',
    command:
      'cargo +nightly check --locked --workspace --exclude xferd-node -Z build-std --target aarch64-apple-darwin --target-dir target/apple',
    // What is only checked needs no C compiler for its C parts (blake3's), and no SDK.
    env: { CC_aarch64_apple_darwin: 'true', AR_aarch64_apple_darwin: 'true', SDKROOT: '/' },
    skip: hasNightlySource() ? undefined : 'needs the nightly toolchain with rust-src',
  },
  { command: 'npm run --silent check' },
  { command: 'npm run --silent lint' },
  { command: 'npm run --silent ava -- --tap', count: countTap },
  { command: 'node --test --test-reporter=tap bench/gate/gate.test.mjs', count: countTap },
  { command: 'npm run --silent bench:check' },
]

install()
installCounters()
let passed = 0
let failed = 0
const results = []
for (const { command, name = command, env, count, skip } of steps) {
  const reason = typeof skip === 'function' ? await skip() : skip
  if (reason) {
    results.push(`skipped  ${name}: ${reason}`)
    continue
  }
  console.log(`\n> ${name}`)
  const startMs = performance.now()
  const { ok, output } = await run(command, env)
  const counts = count?.(output) ?? { passed: 0, failed: 0 }
  if (ok && counts.passed + counts.failed === 0) counts.passed = 1
  if (!ok && counts.failed === 0) counts.failed = 1
  passed += counts.passed
  failed += counts.failed
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1)
  results.push(
    `${ok ? 'ok     ' : 'FAILED '}  ${name}: ${counts.passed} passed, ${counts.failed} failed (${seconds} s)`,
  )
}
console.log(`\n${results.join('\n')}\n\n${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1

/** Runs a command of ours in a shell, showing what it prints, and returns that, too. */
function run(command, env) {
  return new Promise((resolve) => {
    const child = spawn(command, {
      shell: true,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    child.stdout.on('data', (data) => {
      output += data
      process.stdout.write(data)
    })
    child.stderr.pipe(process.stderr, { end: false })
    child.on('close', (code) => resolve({ ok: code === 0, output }))
  })
}

function countCargo(output) {
  return sum(output, /^test result: .*? (\d+) passed; (\d+) failed/gm)
}

function countTap(output) {
  return sum(output, /^# pass (\d+)\n# fail (\d+)/gm)
}

function sum(output, pattern) {
  const total = { passed: 0, failed: 0 }
  for (const [, passed, failed] of output.matchAll(pattern)) {
    total.passed += Number(passed)
    total.failed += Number(failed)
  }
  return total
}

function hasNightlySource() {
  const { stdout, status } = spawnSync('rustc', ['+nightly', '--print', 'sysroot'], { encoding: 'utf8' })
  return status === 0 && existsSync(join(stdout.trim(), 'lib/rustlib/src/rust/library/Cargo.lock'))
}
