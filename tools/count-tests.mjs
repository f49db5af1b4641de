/** @file Prints `N passed, N failed` from vitest's JSON report; exits 1 unless some passed and none failed. */
import { existsSync, readFileSync } from 'node:fs';

const [file = ''] = process.argv.slice(2);
// Without a report, vitest itself has failed: that counts as one failure.
const { passed, failed } = existsSync(file)
  ? count(JSON.parse(readFileSync(file, 'utf8')))
  : { passed: 0, failed: 1 };
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = passed > 0 && failed === 0 ? 0 : 1;

function count(report) {
  // A file that fails before its first test (because of an import, for example) has no failed test, and counts as one.
  const broken = report.testResults.filter(
    ({ status, assertionResults }) =>
      status === 'failed' && assertionResults.every((result) => result.status !== 'failed'),
  );
  return { passed: report.numPassedTests, failed: report.numFailedTests + broken.length };
}
