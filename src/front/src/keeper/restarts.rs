use std::collections::VecDeque;
use std::time::{Duration, Instant};

const MANY: usize = 5;
/// So many deaths within this time are a loop; a daemon that lives so long is sound again.
const WINDOW: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// When the next daemon is started: at once, unless it keeps dying.
pub struct Restarts {
    deaths: VecDeque<Instant>,
    pause: Duration,
    at: Option<Instant>,
    started: Option<Instant>,
    trouble: Option<String>,
}

impl Restarts {
    pub fn new() -> Self {
        Restarts {
            deaths: VecDeque::new(),
            pause: Duration::ZERO,
            at: None,
            started: None,
            trouble: None,
        }
    }

    pub fn started(&mut self, now: Instant) {
        self.started = Some(now);
    }

    /// How long to wait before the next start.
    pub fn died(&mut self, how: &str, now: Instant) -> Duration {
        self.settle(now);
        self.started = None;
        self.deaths.push_back(now);
        while self
            .deaths
            .front()
            .is_some_and(|&first| now.duration_since(first) > WINDOW)
        {
            self.deaths.pop_front();
        }
        if !self.pause.is_zero() || self.deaths.len() >= MANY {
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.trouble = Some(format!("it keeps ending, the last time it {how}"));
        }
        self.at = Some(now + self.pause);
        self.pause
    }

    pub fn due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| now >= at)
    }

    /// When there is something to do again.
    pub fn next(&self, running: bool) -> Option<Instant> {
        match running {
            true => self
                .started
                .filter(|_| self.trouble.is_some())
                .map(|started| started + WINDOW),
            false => self.at,
        }
    }

    /// Forgets old deaths of a daemon that has lived for long. True: the trouble is over.
    pub fn settle(&mut self, now: Instant) -> bool {
        let sound = self
            .started
            .is_some_and(|started| now.duration_since(started) >= WINDOW);
        if !sound {
            return false;
        }
        self.deaths.clear();
        self.pause = Duration::ZERO;
        self.trouble.take().is_some()
    }

    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn starts_at_once_until_five_deaths_within_ten_seconds_then_ever_later_up_to_five_seconds() {
        let mut restarts = Restarts::new();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert!(restarts.due(now));
            restarts.started(now);
            now += MOMENT;
            let pause = restarts.died("ended: exit status: 3", now);
            pauses.push(pause.as_millis());
            now += pause;
        }
        assert_eq!(pauses, [0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
        assert!(restarts.trouble().is_some());
    }

    #[test]
    fn a_daemon_that_lives_long_clears_the_record() {
        let mut restarts = Restarts::new();
        let mut now = Instant::now();
        for _ in 0..6 {
            restarts.started(now);
            restarts.died("ended", now);
        }
        restarts.started(now);
        now += WINDOW;
        assert!(restarts.settle(now));
        assert!(restarts.trouble().is_none());
        assert_eq!(restarts.died("ended", now), Duration::ZERO);
    }

    #[test]
    fn rare_deaths_never_delay_a_start() {
        let mut restarts = Restarts::new();
        let mut now = Instant::now();
        for _ in 0..20 {
            restarts.started(now);
            now += Duration::from_secs(3);
            assert_eq!(restarts.died("ended", now), Duration::ZERO);
        }
    }
}
