// Opens a page in headless Chromium and waits for texts to appear in it, one after the other; prints each when it is there.
// node look.js URL PICTURE TEXT…
import chromium from "@sparticuz/chromium";
import { chromium as browsers } from "playwright-core";

const WAIT_MS = 60_000;
const QUIET = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

const [url, picture, ...texts] = process.argv.slice(2);
const browser = await browsers.launch({ executablePath: await chromium.executablePath(), args: QUIET });
try {
  const page = await browser.newPage({ viewport: { width: 640, height: 440 }, deviceScaleFactor: 2 });
  page.on("console", (message) => process.stderr.write(`${message.text()}\n`));
  page.on("requestfailed", (request) => process.stderr.write(`${request.url()}: ${request.failure()?.errorText}\n`));
  await page.goto(url);
  for (const text of texts) {
    await page.getByText(text, { exact: true }).first().waitFor({ timeout: WAIT_MS });
    process.stdout.write(`${text}\n`);
  }
  await page.screenshot({ path: picture });
} finally {
  await browser.close();
}
