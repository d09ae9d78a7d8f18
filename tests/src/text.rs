use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};

/// A client of memcached's text protocol: sends what it is told, shows what comes back.
pub struct Text {
    stream: BufReader<TcpStream>,
}

impl Text {
    /// Over this connection.
    pub fn new(stream: TcpStream) -> Text {
        Text { stream: BufReader::new(stream) }
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// When the server does not take them.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Sends a command (the end of the line is added) and returns the first line of the answer.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n"));
        self.line()
    }

    /// The next line, without its end.
    ///
    /// # Panics
    /// When there is none, or it is no text.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the server answers");
        match line.strip_suffix("\r\n") {
            Some(line) => line.to_owned(),
            None => panic!("{line:?} does not end as a line of the protocol does"),
        }
    }

    /// Lines up to and without `last`.
    #[track_caller]
    pub fn lines_to(&mut self, last: &str) -> Vec<String> {
        std::iter::repeat_with(|| self.line()).take_while(|line| line != last).collect()
    }

    /// The value of a key, if there is one.
    ///
    /// # Panics
    /// When the answer is not of the protocol.
    #[track_caller]
    pub fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        let head = self.ask(&format!("get {key}"));
        if head == "END" {
            return None;
        }
        let words: Vec<&str> = head.split(' ').collect();
        assert_eq!(words[..2], ["VALUE", key], "the head of the answer is {head:?}");
        let mut value = vec![0; words[3].parse().expect("the length is a number")];
        self.stream.read_exact(&mut value).expect("the server sends the whole value");
        assert_eq!((self.line(), self.line()), (String::new(), "END".to_owned()));
        Some(value)
    }

    /// Stores a value.
    ///
    /// # Panics
    /// When the server refuses.
    #[track_caller]
    pub fn set(&mut self, key: &str, value: &[u8]) {
        self.send(format!("set {key} 0 0 {}\r\n", value.len()));
        self.send(value);
        assert_eq!(self.ask(""), "STORED");
    }

    /// What `stats` answers.
    #[track_caller]
    pub fn stats(&mut self) -> BTreeMap<String, String> {
        self.send("stats\r\n");
        let lines = self.lines_to("END");
        let stat = |line: &String| {
            let mut words = line.splitn(3, ' ');
            assert_eq!(words.next(), Some("STAT"), "a line of stats is {line:?}");
            (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned())
        };
        lines.iter().map(stat).collect()
    }

    /// Says that nothing more will be sent, and returns all that still comes.
    ///
    /// # Panics
    /// When the server does not close, too.
    #[track_caller]
    pub fn finish(mut self) -> Vec<u8> {
        self.stream.get_mut().shutdown(Shutdown::Write).expect("the connection is open");
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("the server closes in order");
        rest
    }

    /// The connection.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }
}
