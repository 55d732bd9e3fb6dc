// `npm test`: installs, builds, runs every check, and ends with the line "N passed, N failed".
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join, parse } from 'node:path'
import { install, installPrograms, whyNoUring } from './setup.mjs'

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
    // All of the workspace's, so that nothing is built again for fewer features.
    command: `cargo test --locked --workspace --no-fail-fast ${testsOf('server', 'client')}`,
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
    name: 'crashes of the key-value store, on a simulated disk',
    command: 'cargo test --locked -p xferd-kv --test crashes --profile simulator --target-dir target/sim',
    env: { RUSTFLAGS: '--cfg xferd_sim' },
    count: countCargo,
  },
  {
    name: 'the promises, in fresh simulated worlds for two minutes',
    command: 'nice -n 19 npm run --silent simulate -- --seconds 120',
    isBeside: true,
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
  { command: 'npm run --silent bench:check', isAlone: true },
]

install()
installPrograms()
let passed = 0
let failed = 0
const results = []
/** Steps that take one thread, and go on beside those that follow. */
const beside = []
for (const step of steps) {
  if (step.isAlone) await Promise.all(beside)
  const reason = typeof step.skip === 'function' ? await step.skip() : step.skip
  if (reason) results.push(`skipped  ${step.name ?? step.command}: ${reason}`)
  else if (step.isBeside) beside.push(perform(step))
  else await perform(step)
}
await Promise.all(beside)
console.log(`\n${results.join('\n')}\n\n${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1

async function perform({ command, name = command, env, count, isBeside }) {
  console.log(`\n> ${name}${isBeside ? ', beside what follows' : ''}`)
  const startMs = performance.now()
  const { ok, output } = await run(command, env, !isBeside)
  if (isBeside) console.log(`\n> ${name}\n${output}`)
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

/** Options by which cargo takes the integration tests of these crates. */
function testsOf(...crates) {
  const files = crates.flatMap((name) => readdirSync(join('crates', name, 'tests')))
  const names = files.filter((file) => file.endsWith('.rs')).map((file) => parse(file).name)
  return names.map((name) => `--test ${name}`).join(' ')
}

/** Runs a command of ours in a shell, and returns what it prints; shows it, too, or else returns its errors with it. */
function run(command, env, isShown) {
  return new Promise((resolve) => {
    const child = spawn(command, {
      shell: true,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    child.stdout.on('data', (data) => {
      output += data
      if (isShown) process.stdout.write(data)
    })
    if (isShown) child.stderr.pipe(process.stderr, { end: false })
    else child.stderr.on('data', (data) => (output += data))
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
