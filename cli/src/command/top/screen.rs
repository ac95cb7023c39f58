//! The terminal, taken over for as long as a page is shown on it again and again, and given back as it was.

use std::io::{self, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

use super::page::Room;

/// To the other screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Back, with a cursor.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the upper left corner.
const HOME: &str = "\x1b[H";
/// Clears what stands behind the cursor in its line.
const CLEAR_LINE: &str = "\x1b[K";
/// Clears what stands below the cursor.
const CLEAR_BELOW: &str = "\x1b[J";

/// Room where the terminal does not say.
const USUAL_ROOM: Room = Room {
    lines: 24,
    columns: 80,
};

/// A terminal that shows a page; dropped, it is what it was before.
pub(super) struct Screen {
    /// How what is typed was treated; none where stdin is no terminal.
    modes: Option<Termios>,
}

impl Screen {
    /// Takes the terminal over. Keys come one by one and are not shown; Ctrl-C stays a signal.
    pub(super) fn open() -> io::Result<Self> {
        let stdin = io::stdin();
        let modes = if stdin.is_terminal() {
            let before = tcgetattr(&stdin)?;
            let mut modes = before.clone();
            modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            tcsetattr(&stdin, OptionalActions::Now, &modes)?;
            Some(before)
        } else {
            None
        };
        // From here on, whatever happens, the terminal is given back.
        let screen = Self { modes };
        write(ENTER)?;
        Ok(screen)
    }

    /// How much there is room for, now.
    pub(super) fn room(&self) -> Room {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => Room {
                lines: size.ws_row.into(),
                columns: size.ws_col.into(),
            },
            _ => USUAL_ROOM,
        }
    }

    /// Shows a page instead of the one before.
    pub(super) fn draw(&self, page: &str) -> io::Result<()> {
        write(&redrawn(page))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where the terminal is gone there is nobody to tell.
        let _ = write(LEAVE);
        if let Some(modes) = &self.modes {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, modes);
        }
    }
}

/// What draws a page over another one without flicker: nothing is cleared that is written again.
fn redrawn(page: &str) -> String {
    let end = format!("{CLEAR_LINE}\r\n");
    let lines: Vec<&str> = page.lines().collect();
    format!("{HOME}{}{CLEAR_LINE}{CLEAR_BELOW}", lines.join(&end))
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Waits until `q` is typed; for ever where nobody types.
pub(super) async fn quit_typed() {
    if !io::stdin().is_terminal() {
        return std::future::pending().await;
    }
    let (sender, mut receiver) = mpsc::channel(1);
    // A read of stdin may wait for ever, and nothing can interrupt it: the thread ends with the process.
    let read = move || {
        for byte in io::stdin().lock().bytes() {
            match byte {
                Ok(b'q' | b'Q') | Err(_) => {
                    let _nobody_waits = sender.blocking_send(());
                    return;
                }
                Ok(_) => {}
            }
        }
    };
    let started = std::thread::Builder::new().name("keys".into()).spawn(read);
    // When the terminal is closed nothing more is typed.
    if started.is_err() || receiver.recv().await.is_none() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_drawn_over_the_one_before() {
        assert_eq!(
            redrawn("one\n\ntwo\n"),
            "\x1b[Hone\x1b[K\r\n\x1b[K\r\ntwo\x1b[K\x1b[J"
        );
    }
}
